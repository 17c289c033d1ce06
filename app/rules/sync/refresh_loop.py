"""What a worker does all the time so that its rules are the current ones, and on disk."""

from __future__ import annotations

import random
from collections.abc import Callable

import gevent
from gevent.event import Event

from app.observability.background import forever
from app.rules.sql.database.change_listener import ChangeListener
from app.rules.sync.reloader import RuleReloader

POLL_SECONDS = 1.0  # with jitter of a fifth: what a lost notification costs
# Before a poll, at most: all workers hear of a change in the same instant, and one change seldom comes alone.
SCATTER_SECONDS = 0.01
# After a poll: rules that change without end are read some 15 times a second. Where there are 10,000 and a few of them
# change, that is a quarter of a worker's time.
REST_SECONDS = 0.05
# Once the rules have changed, another worker of the node has perhaps saved them before this one's turn comes.
SAVE_SECONDS = (0.2, 0.6)


class RefreshLoop:
    """Three greenlets: one polls, one listens for the hint to poll at once, one saves.

    `listen` makes the listener, given what it calls for each hint.
    """

    def __init__(self, reloader: RuleReloader, listen: Callable[[Callable[[], None]], ChangeListener]) -> None:
        self._reloader = reloader
        self._changed = Event()
        self._listener = listen(self._changed.set)

    @property
    def notified(self) -> bool:
        """Whether this worker hears of changed rules at once; if not, a poll finds them within 1.2 seconds."""
        return self._listener.receiving

    def start(self) -> None:
        """Load the first rules, then go on by itself. In the worker, after the fork."""
        self._reloader.start()
        gevent.spawn(self._listener.run)
        gevent.spawn(forever, "polling for changed rules", self._poll)
        gevent.spawn(forever, "saving the rules", self._save)

    def stop(self) -> None:
        """Save what is not saved yet."""
        self._reloader.save()

    def _poll(self) -> None:
        self._changed.wait(POLL_SECONDS * random.uniform(0.8, 1.2))
        gevent.sleep(random.uniform(0, SCATTER_SECONDS))
        self._changed.clear()
        self._reloader.refresh()
        self._reloader.tidy()
        gevent.sleep(REST_SECONDS)

    def _save(self) -> None:
        gevent.sleep(random.uniform(*SAVE_SECONDS))
        if self._reloader.to_be_saved:
            self._reloader.save(gevent.get_hub().threadpool.apply)  # a disk may take its time
