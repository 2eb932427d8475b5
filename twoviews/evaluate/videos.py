from .measure import evaluate


def measure_videos(encoder, untrained, train, test, view, *, device, seed, progress, skipped, keep):
    return evaluate(
        encoder,
        untrained,
        None,
        train,
        test,
        view,
        device=device,
        progress=progress,
        skipped=skipped,
        keep=keep,
        settings={"knn": {"k": 20}},
    )
