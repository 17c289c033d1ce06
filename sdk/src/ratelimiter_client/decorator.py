"""The decorator: every call of a function is a check."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from typing import Any, Callable, TypeVar, Union

from ratelimiter_client.arguments import accepts, limit_name, number, refuse_unless
from ratelimiter_client.decision import Decision, Groups, Name
from ratelimiter_client.errors import RateLimited
from ratelimiter_client.http.questions import group_names

F = TypeVar("F", bound=Callable[..., Any])
Who = Union[str, Callable[..., Name]]
Cost = Union[int, Callable[..., int]]
Many = Union[Groups, Callable[..., Groups]]
Question = Callable[..., Any]


def limited(
    check: Callable[..., Any],
    limit_key: str,
    *,
    identify: Who,
    cost: Cost,
    groups: Many,
    on_denied: Callable[[Decision], Any] | None,
) -> Callable[[F], F]:
    """See RateLimiter.limit. An async `check` is for async functions."""
    is_async = inspect.iscoroutinefunction(check)
    is_name = isinstance(identify, str) or callable(identify)
    refuse_unless(is_name, "identify", identify, "text, or a function of the call's arguments")
    is_called = on_denied is None or accepts(on_denied, None)
    refuse_unless(is_called, "on_denied", on_denied, "a function of the decision")
    limit_key = limit_name(limit_key)
    cost = cost if callable(cost) else number(cost)
    groups = groups if callable(groups) else group_names(groups)

    def decorate(function: F) -> F:
        fits = inspect.iscoroutinefunction(function) or not is_async
        refuse_unless(fits, "what is limited", function, "an async function: this client is for asyncio")
        ask = question(check, function, limit_key, identify=identify, cost=cost, groups=groups)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            decision = ask(args, kwargs)
            return function(*args, **kwargs) if decision.allowed else answer_to(decision, on_denied)

        async def in_thread(args: Any, kwargs: Any) -> Any:
            run = contextvars.copy_context().run  # of the task, in which `identify` may look
            return await asyncio.get_running_loop().run_in_executor(None, lambda: run(ask, args, kwargs))

        @functools.wraps(function)
        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            decision = await (ask if is_async else in_thread)(args, kwargs)
            if decision.allowed:
                return await function(*args, **kwargs)
            answer = answer_to(decision, on_denied)
            return await answer if inspect.isawaitable(answer) else answer

        return async_wrapper if inspect.iscoroutinefunction(function) else wrapper  # type: ignore[return-value]

    return decorate


def question(check: Question, function: Question, limit_key: str, *, identify: Any, cost: Any, groups: Any) -> Question:
    """A function of a call's arguments that asks, with the results of `identify`, `cost` and `groups`.

    Raises TypeError if one of these does not accept the declared arguments.
    """
    signature = inspect.signature(function)
    named = taking(identify, "identify", signature)
    priced = taking(cost, "cost", signature)
    grouped = taking(groups, "groups", signature)

    def ask(args: Any, kwargs: Any) -> Any:
        if kwargs:  # arguments by position, so that `identify` and `cost` may name them differently
            bound = signature.bind(*args, **kwargs)
            args, kwargs = bound.args, bound.kwargs
        units = priced(*args, **kwargs)
        return check(named(*args, **kwargs), limit_key, units, groups=grouped(*args, **kwargs))

    return ask


def taking(value: Any, name: str, signature: inspect.Signature) -> Callable[..., Any]:
    """`value` as a function of the arguments that the signature declares. Raises TypeError if it does not accept
    them.
    """
    if not callable(value):
        return lambda *_, **__: value
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} is {value!r}, allowed is a function that is not async")
    declared = list(signature.parameters.values())
    required = [known for known in declared if known.default is known.empty]
    if not any(accepts(value, *_placed(known), **_named(known)) for known in (declared, required)):
        raise TypeError(f"{name} is {value!r}, allowed is a function of the call's arguments {signature}")
    return value  # type: ignore[no-any-return]


def _placed(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return [known for known in parameters if known.kind in (known.POSITIONAL_ONLY, known.POSITIONAL_OR_KEYWORD)]


def _named(parameters: list[inspect.Parameter]) -> dict[str, inspect.Parameter]:
    return {known.name: known for known in parameters if known.kind is known.KEYWORD_ONLY}


def answer_to(decision: Decision, on_denied: Callable[[Decision], Any] | None) -> Any:
    """The return value of a denied call. Raises RateLimited without `on_denied`."""
    if on_denied is None:
        raise RateLimited(decision)
    return on_denied(decision)
