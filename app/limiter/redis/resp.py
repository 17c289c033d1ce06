"""Packs commands in the Redis protocol (RESP), for parts that can be packed once and reused."""

from __future__ import annotations


def packed(*words: bytes) -> bytes:
    """Pack a command."""
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def bulk(word: bytes) -> bytes:
    """Pack one word of a command."""
    return b"$%d\r\n%b\r\n" % (len(word), word)
