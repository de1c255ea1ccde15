"""What is freed goes back to the system."""

from pathlib import Path

from tunesmith.training.heap import give_back


def own_bytes() -> int:
    """The process's own memory, without mapped files."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def test_freed_blocks_between_held_ones_go_back() -> None:
    blocks = [bytearray(b"x" * 64_000) for _ in range(2000)]
    held = blocks[::50]
    full = own_bytes()
    blocks.clear()
    give_back()
    assert full - own_bytes() > 100_000_000
    assert len(held) == 40
