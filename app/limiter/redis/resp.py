"""Commands as Redis reads them: the part of its protocol that is cheap to write once and for all."""

from __future__ import annotations


def packed(*words: bytes) -> bytes:
    """A command."""
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def bulk(word: bytes) -> bytes:
    """A word of one."""
    return b"$%d\r\n%b\r\n" % (len(word), word)
