from __future__ import annotations

import asyncio
import threading

import pytest

from t2i.serve.replicas.batches import Batches


@pytest.mark.usefixtures("replica_context")
def test_all_is_computed_on_one_thread_of_its_own() -> None:
    async def main() -> set[int]:
        batches: Batches[int, int] = Batches(lambda items: [threading.get_ident() for _ in items], 2, "decoder")
        between = await batches.run(lambda _: threading.get_ident(), None)
        return {between, *await asyncio.gather(*map(batches, range(8)))}

    (thread,) = asyncio.run(main())
    assert thread != threading.get_ident()
