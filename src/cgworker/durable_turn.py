"""The part of a `Turn` that lasts over attempts: steps, children, sleeps, questions and messages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar, Unpack, overload

from cgworker.durable.children import Child, ChildResult
from cgworker.durable.messages import Message, MessageReader
from cgworker.durable.parts import Parts
from cgworker.durable.questions import Question
from cgworker.wire.order import Order
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import CONVERSATION_KIND

T = TypeVar("T")


class DurableTurn:
    """The part of a `Turn` whose calls continue where an earlier attempt left off.

    Args:
        parts: the turn's records, steps, children and so on.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @overload
    async def once(
        self,
        key: str,
        make: Callable[[], Any],
        *,
        private: bool = False,
        ahead: bool = False,
        acts: bool = True,
    ) -> Any: ...

    @overload
    async def once(
        self,
        key: str,
        make: Callable[[], Any],
        *,
        returns: type[T],
        private: bool = False,
        ahead: bool = False,
        acts: bool = True,
    ) -> T: ...

    async def once(
        self,
        key: str,
        make: Callable[[], Any],
        *,
        returns: Any = Any,
        private: bool = False,
        ahead: bool = False,
        acts: bool = True,
    ) -> Any:
        """Run a step once in the turn's life; later attempts get its stored result.

        The result is stored as a public record of role `step`, or with `private` in the worker's private
        store. The step runs again only if the worker dies after running it and before storing the result.

        Args:
            key: names the step within the turn; a loop needs a key for each round.
            make: the step, a sync or async function without arguments. Its exceptions are raised, and then
                nothing is stored.
            returns: the type to read the value as, such as an attrs class; by default it is plain JSON.
            private: keep the result out of CommonGround: its record has only a digest and a size. It may have
                hundreds of megabytes, and is removed when the turn is closed.
            ahead: go on ahead of a private step: its result and its record are written meanwhile. The next
                step begins once the result is stored. At most nine records are under way. Questions, public
                records, children and the end of the turn wait for them, and raise what went wrong. For
                handlers that act in steps alone.
            acts: whether the step has effects. One that has none, such as a request to a model, may begin
                while the result before it is synced to the disk.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused the record; PayloadTooLarge if the value is too large.
            TypeError, ValueError: the value that `make` returned is not JSON.
            PrivateStepMissing: the private store does not have the result, and the worker's
                `on_private_missing` is "fail", or it handed the turn back too often.
        """
        return await self._parts.steps.once(key, make, returns, private=private, ahead=ahead, acts=acts)

    @property
    def may_have_private(self) -> bool:
        """Whether the turn may have private values. The worker asks this when the turn is closed."""
        return self._parts.may_have_private

    async def remove_private(self) -> None:
        """Remove the private values of the turn. The worker calls this when the turn is closed."""
        await self._parts.private.delete()

    def step_key(self, name: str) -> str:
        """Return a key for the next step of this name in this run: `model#1`, then `model#2` and so on.

        A handler that makes the same steps in the same order in each run gets the same keys.

        Args:
            name: what the steps have in common.
        """
        counts = self._parts.step_counts
        counts[name] += 1
        return f"{name}#{counts[name]}"

    def child(
        self, agent_id: str, input: Any, *, kind: str = CONVERSATION_KIND, **order: Unpack[Order]
    ) -> Child:
        """Describe a turn for another agent of the project, for `children`.

        Args:
            agent_id: the agent.
            input: any JSON value, or an object of an attrs class or a dataclass.
            kind: the turn kind; the agent must have that capability.
            order: when and in which order the turn is claimed, as in `Dispatch`: `not_before` or
                `delay_seconds`, `priority`, `serial_key`, `fairness_key`.
        """
        return Child(agent_id, input, kind=kind, order=order)

    async def children(
        self, wanted: Mapping[str, Child], *, first: int | None = None
    ) -> dict[str, ChildResult]:
        """Dispatch turns to other agents, and return their results when they are closed.

        Until then the turn is suspended and holds no slot. `Suspending` unwinds the handler, which starts
        again from the top when enough children are closed; then this returns, with equal results each time.

        Args:
            wanted: the children by name; a name stands for the same child in every attempt and every call.
            first: return as soon as this many are closed, with those; by default all of them.

        Returns:
            Results by name. A child that failed or was stopped is a result as well.

        Raises:
            UsageError: a name stands for another child already, or `first` cannot be met.
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused, for instance because an agent does not exist.
        """
        with self._parts.waits.noting_suspension():
            return await self._parts.children.results(wanted, first, self._dispatch_child)

    @abstractmethod
    async def _dispatch_child(self, name: str, child: Child) -> TurnRef:
        """Dispatch the named child, or return it if it was dispatched before."""

    async def sleep(self, seconds: float, *, key: str) -> None:
        """Wait for some time, as a suspended turn that holds no slot; the kernel wakes it.

        `Suspending` unwinds the handler, which starts again from the top when the time has passed; then this
        returns. The time counts from the first call, by the kernel's clock, whatever happens meanwhile.

        Args:
            seconds: how long, 0 to 10^9; a later attempt cannot change it.
            key: names the sleep within the turn.

        Raises:
            UsageError: `seconds` is out of range.
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused a record.
        """
        with self._parts.waits.noting_suspension():
            await self._parts.sleeps.sleep(seconds, key)

    @overload
    async def ask(
        self, schema: type[T], question: Any, *, key: str, timeout_seconds: float | None = None
    ) -> T: ...

    @overload
    async def ask(
        self, schema: Any, question: Any, *, key: str, timeout_seconds: float | None = None
    ) -> Any: ...

    async def ask(self, schema: Any, question: Any, *, key: str, timeout_seconds: float | None = None) -> Any:
        """Ask people or programs a question, and return the answer.

        Until then the turn is suspended and holds no slot. `Suspending` unwinds the handler, which starts
        again from the top after an answer (`cg turn answer`, `answer_question`). An answer that does not fit
        the schema is recorded as refused, and the turn stays suspended.

        Args:
            schema: the type of the answer: an attrs class, a dataclass, a type such as `bool` or
                `Literal["yes", "no"]`, or a JSON Schema as a dict.
            question: any JSON value; public. It must be the same in every attempt.
            key: names the question within the turn.
            timeout_seconds: how long to wait for an answer, 0 to 10^9, from when the question was first
                asked, by the kernel's clock; None waits for ever.

        Raises:
            QuestionDeclined: the question was declined; every later attempt gets this error too.
            AnswerTimeout: nobody answered in time; every later attempt gets this error too.
            UsageError: the schema is not valid, or the key belongs to another question.
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused a record.
        """
        with self._parts.waits.noting_suspension():
            asked = {key: Question(schema, question, timeout_seconds)}
            return (await self._parts.questions.ask_all(asked, None))[key]

    async def ask_all(self, questions: Mapping[str, Question], *, first: int | None = None) -> dict[str, Any]:
        """Ask several questions at once, and return the answers when there are enough.

        The turn is suspended once for all of them, and holds no slot. The handler starts again from the top
        after each answer; this returns when enough questions are answered, with the same answers each time.

        Args:
            questions: the questions by key, as for `ask`.
            first: return as soon as this many are answered, with those; by default all of them.

        Returns:
            The answers by key.

        Raises:
            QuestionDeclined: too many questions were declined for enough answers.
            AnswerTimeout: the same, if the first of them was not answered in time.
            UsageError: `first` cannot be met, a schema is not valid, or a key belongs to another question.
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused a record.
        """
        with self._parts.waits.noting_suspension():
            return await self._parts.questions.ask_all(questions, first)

    def messages(self, *, wait: bool = True) -> AsyncIterator[Message]:
        """Read the messages to the turn, in order: `async for message in turn.messages(): ...`.

        Each run of the handler gets all messages from the first one on, including those sent before it began.
        It gets each of them once, even if it reads them in several places.

        Args:
            wait: wait for further messages, until the loop is left; False ends with the last one so far.

        Raises:
            LeaseLost: the kernel did not answer before the lease ended.
            KernelLacks: the kernel cannot wait for messages, as the reference's cannot.
        """
        return MessageReader(self._parts.messages, wait=wait)
