def embed_videos(*a, **k):
    return 0
