"""Keeps a worker's rules current and saved, as long as it runs."""

from __future__ import annotations

import random
from collections.abc import Callable

import gevent
from gevent.event import Event

from app.observability.background import forever
from app.rules.sql.database.change_listener import ChangeListener
from app.rules.sync.reloader import RuleReloader

POLL_SECONDS = 1.0  # with 20 % jitter; the cost of a lost notification
# Longest wait before a poll: all workers are notified at the same time, and changes often come in groups.
SCATTER_SECONDS = 0.01
# Pause after a poll: constantly changing rules are read some 15 times a second. With 10,000 rules, of which a few
# change, this takes a quarter of a worker's time.
POLL_REST_SECONDS = 0.05
# Random wait before saving: another worker of the node may have saved the rules by then.
SAVE_SECONDS = (0.2, 0.6)


class RefreshLoop:
    """Three greenlets: one polls, one listens for hints to poll at once, one saves.

    `listen` creates the listener, given its callback.
    """

    def __init__(self, reloader: RuleReloader, listen: Callable[[Callable[[], None]], ChangeListener]) -> None:
        self._reloader = reloader
        self._changed = Event()
        self._listener = listen(self._changed.set)

    @property
    def notified(self) -> bool:
        """Whether notifications reach this worker. Otherwise a poll finds changed rules within 1.2 seconds."""
        return self._listener.receiving

    def start(self) -> None:
        """Load the first rules, then start the greenlets. Call in the worker, after the fork."""
        self._reloader.start()
        gevent.spawn(self._listener.run)
        gevent.spawn(forever, "polling for changed rules", self._poll)
        gevent.spawn(forever, "saving the rules", self._save)

    def stop(self) -> None:
        """Save unsaved rules."""
        self._reloader.save()

    def _poll(self) -> None:
        self._changed.wait(POLL_SECONDS * random.uniform(0.8, 1.2))
        gevent.sleep(random.uniform(0, SCATTER_SECONDS))
        self._changed.clear()
        self._reloader.refresh()
        self._reloader.tidy()
        gevent.sleep(POLL_REST_SECONDS)

    def _save(self) -> None:
        gevent.sleep(random.uniform(*SAVE_SECONDS))
        if self._reloader.to_be_saved:
            self._reloader.save(gevent.get_hub().threadpool.apply)  # the disk may be slow
