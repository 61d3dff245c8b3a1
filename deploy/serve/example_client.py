"""Ask a running service for the best two of eight images, show progress, and save them."""

from pathlib import Path

from t2i.client import Client, GeneratedImage, GenerationProgress, Summary

with Client("127.0.0.1:50051") as client:
    rank = 0
    for event in client.generate_stream("a taco, 3D render", candidates=8, keep=2, seed=1):
        match event:
            case GenerationProgress():
                print(f"{event.stage}: {event.tokens_done} of {event.tokens_total} image tokens")
            case GeneratedImage():
                rank += 1
                Path(f"taco_{rank}.{event.format}").write_bytes(event.data)
                print(f"taco_{rank}.{event.format}: CLIP score {event.score:.3f}")
            case Summary():
                print(f"seed {event.seed}, models {event.models}")
