"""Documents parted into sentences, compiled: one pass over numbers of words."""

from __future__ import annotations

from ..compiled import compiled


@compiled()
def parted(tokens, breaks, closes, codes, stops, words, out, ends, bounds, origins):
    """Recode tokens and close up what is left out, sentence by sentence. `out` may be `tokens`.

    breaks: (m,) where a sentence ends whatever its words; closes: (m,) bool, where a document ends too.
    codes:  (W,) what each word becomes, 0 for those that are left out.  stops: (W,) bool, words that end a sentence.
    words:  longer sentences are cut into equal parts of at most so many.
    ends:   where each sentence ends in `out`; bounds: (d + 1,) sentences before each document; origins: (d,) which
            document of all it is. Room for the most that there can be; documents of one sentence are left out.
    Returns documents kept, sentences cut, documents left out though they have a word.
    """
    i, n, first, start = 0, 0, 0, 0  # in tokens; in out: now, where the sentence and where the document began
    s, d, met, cut, alone = 0, 0, 0, 0, 0
    bounds[0] = 0
    for b in range(len(breaks)):
        stop = False
        while not stop:
            stop = i == breaks[b]
            ended = stop
            if not stop:
                code = codes[tokens[i]]
                ended = stops[tokens[i]]
                if code > 0:
                    out[n] = code
                    n += 1
                i += 1
            if ended and n > first:
                size = n - first
                parts = (size + words - 1) // words
                cut += parts > 1
                for part in range(1, parts + 1):
                    ends[s] = first + size * part // parts
                    s += 1
                first = n
        if closes[b]:
            if s - bounds[d] > 1:
                origins[d] = met
                d += 1
                bounds[d] = s
            else:
                alone += n > start
                s, n, first = bounds[d], start, start
            met += 1
            start = n
    return d, cut, alone
