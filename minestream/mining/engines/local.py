"""This process mines; a part is written while the next is mined."""

from __future__ import annotations

from functools import partial

from minestream.mining.engines.work import Work, write_part
from minestream.system.threads import Behind


def run(work: Work) -> None:
    """Mine what is left."""
    with work.miner.learning(), Behind() as writing:
        for index, picture in work.miner.mine_shards(work.todo):
            writing.run(partial(write_part, work.run, index, picture))
