"""A model of the protocol of daemon, database, workers and people, small enough for every order of events.

One step of one observation; runs of the daemon on two hosts, of which one may freeze; tasks on workers. What the
database does in one atomic update is one move. :data:`GUARDS` are the mechanisms that keep the promises: each can be
switched off, and then a promise is broken, which shows that the model can see it.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

GUARDS = frozenset(
    {
        "lease",  # a run starts only where no other one holds the lease
        "certainty",  # a run that was frozen claims nothing before it has renewed the lease
        "comparison",  # the end of a step is recorded only for the task that holds its claim
        "release",  # a new run releases the claims of former ones
        "submitted",  # only tasks that were submitted count as running when claims are released after an outage
        "repetition",  # a result whose record was not acknowledged is recorded again, as if for the first time
        "effects due",  # the effects of a result are noted as due in the update that records it
        "force_redo",  # a wish is consumed only while no step runs, and not by the end of a step
        "fence",  # a worker whose task was superseded publishes nothing (assumed of workers on other machines)
    }
)


class Scope(NamedTuple):
    """How often what can happen without end happens in the model."""

    wishes: int = 1
    runs: int = 2
    tasks: int = 3


SMALL = Scope()


class Task(NamedTuple):
    run: int
    grant: int  # the wishes that were granted when it was claimed
    phase: str  # claimed, running, ended, recorded, gone
    known: bool  # whether its run remembers it


class World(NamedTuple):
    step: str = "waiting"
    claim: int | None = None  # number of the task that holds it
    wished: int = 0  # wishes so far
    forced: bool = False  # the field force_redo
    granted: int = 0  # wishes that the daemon has consumed
    recorded: int | None = None  # grant of the result in the database
    published: int | None = None  # grant of the product on disk
    due: int | None = None  # effects_due
    shared: int | None = None  # grant of the result whose effects are complete
    lease: int | None = None
    expired: bool = False
    runs: tuple[str, ...] = ()  # off, leading, up, frozen, lost (frozen before, does not know it), dead
    tasks: tuple[Task, ...] = ()


Move = tuple[str, bool, World]
"""Name of a move, whether it is a fault or a wish, and the world after it."""


def put(things: tuple, place: int, thing: object) -> tuple:
    return (*things[:place], thing, *things[place + 1 :])


def is_good(world: World) -> bool:
    """Whether nothing is to be done, and all was done."""
    return (
        world.step == "done"
        and world.claim is None
        and not world.forced
        and world.recorded == world.published == world.shared == world.granted == world.wished
    )


def broken(world: World) -> str:
    """Return the promise that a world breaks."""
    leaders = [run for run, phase in enumerate(world.runs) if phase in ("leading", "up")]
    if len(leaders) > 1:
        return "two masters"
    busy = [task for task in world.tasks if task.phase in ("claimed", "running") and task.known]
    if len([task for task in busy if world.runs[task.run] in ("up", "leading")]) > 1:
        return "two tasks of one step"
    return ""


class Model:
    """All moves of the world.

    Parameters
    ----------
    guards : frozenset of str
        The mechanisms at work.
    scope : Scope
        Its size.
    """

    def __init__(self, guards: frozenset[str] = GUARDS, scope: Scope = SMALL) -> None:
        self.guards, self.scope = guards, scope

    def moves(self, world: World) -> Iterator[Move]:
        """Yield everything that can happen next."""
        if world.wished < self.scope.wishes:
            yield "wish", True, world._replace(wished=world.wished + 1, forced=True)
        for run, phase in enumerate(world.runs):
            yield from getattr(self, f"_{phase}")(world, run)
        for number, task in enumerate(world.tasks):
            if task.phase == "running":
                yield from self._work(world, number, task)
        holder = world.lease
        if holder is not None and not world.expired and world.runs[holder] in ("frozen", "dead"):
            yield "expire", False, world._replace(expired=True)

    def _phase(self, world: World, run: int, phase: str) -> World:
        return world._replace(runs=put(world.runs, run, phase))

    # -- runs -----------------------------------------------------------------------------------------------------

    def _off(self, world: World, run: int) -> Iterator[Move]:
        if run and world.runs[run - 1] == "off":
            return
        former = world.runs[run - 1] if run else "dead"
        if former in ("leading", "up") and "lease" in self.guards:
            return
        same_host = former == "dead"  # the lock on the archive is free
        if world.lease is None or world.expired or same_host or "lease" not in self.guards:
            yield "start", False, self._phase(world, run, "leading")._replace(lease=run, expired=False)

    def _leading(self, world: World, run: int) -> Iterator[Move]:
        """Take up what former runs left."""
        ready = self._phase(world, run, "up")
        if world.claim is not None and world.tasks[world.claim].run != run and "release" in self.guards:
            ready = ready._replace(step="waiting", claim=None)
        if world.due is not None:
            ready = ready._replace(due=None, shared=world.recorded)
        yield "take up", False, ready
        yield from self._dies(world, run)

    def _up(self, world: World, run: int) -> Iterator[Move]:
        yield from self._claims(world, run)
        yield from self._harvests(world, run)
        if world.forced and (world.step != "enqueued" or "force_redo" not in self.guards):
            state = world.step if world.step == "enqueued" else "waiting"
            yield "grant", False, world._replace(forced=False, granted=world.wished, step=state)
        yield from self._dies(world, run)
        if run == 0:
            yield "freeze", True, self._phase(world, run, "frozen")
        claim = world.claim
        if claim is not None and world.tasks[claim].run == run:
            task = world.tasks[claim]
            if not task.known:
                yield "recover", False, world._replace(step="waiting", claim=None)
            if task.phase == "running":
                tasks = put(world.tasks, claim, task._replace(known=False))
                yield "lose the cluster", True, world._replace(step="waiting", claim=None, tasks=tasks)

    def _claims(self, world: World, run: int) -> Iterator[Move]:
        if world.step == "waiting" and len(world.tasks) < self.scope.tasks:
            number, granted = len(world.tasks), world.granted
            claimed = world._replace(step="enqueued", claim=number)
            yield "claim", False, claimed._replace(tasks=(*world.tasks, Task(run, granted, "running", True)))
            known = "submitted" not in self.guards
            lost = Task(run, granted, "gone", known)
            yield "claim, not submitted", True, claimed._replace(tasks=(*world.tasks, lost))

    def _harvests(self, world: World, run: int) -> Iterator[Move]:
        for number, task in enumerate(world.tasks):
            if task.run != run or not task.known:
                continue
            if task.phase == "ended":
                for reply_lost in (False, True):
                    yield self._record(world, number, task, reply_lost=reply_lost)
            elif task.phase == "recorded":
                tasks = put(world.tasks, number, task._replace(phase="gone"))
                yield "effects", False, world._replace(tasks=tasks, due=None, shared=world.recorded)

    def _record(self, world: World, number: int, task: Task, *, reply_lost: bool) -> Move:
        def then(phase: str) -> tuple[Task, ...]:
            return put(world.tasks, number, task._replace(phase=phase))

        name = f"record{', reply lost' if reply_lost else ''}"
        if world.claim == number or "comparison" not in self.guards:
            due = number if "effects due" in self.guards else None
            done = world._replace(step="done", claim=None, recorded=task.grant, due=due)
            if "force_redo" not in self.guards:
                done = done._replace(forced=False)
            return name, reply_lost, done if reply_lost else done._replace(tasks=then("recorded"))
        if world.due == number and "repetition" in self.guards:
            return name, reply_lost, world if reply_lost else world._replace(tasks=then("recorded"))
        return "ignore", False, world._replace(tasks=then("gone"))

    def _dies(self, world: World, run: int) -> Iterator[Move]:
        if run + 1 < self.scope.runs:
            tasks = tuple(task._replace(known=False) if task.run == run else task for task in world.tasks)
            yield "kill", True, self._phase(world, run, "dead")._replace(tasks=tasks)

    def _frozen(self, world: World, run: int) -> Iterator[Move]:
        yield "thaw", False, self._phase(world, run, "up" if world.lease == run and not world.expired else "lost")

    def _lost(self, world: World, run: int) -> Iterator[Move]:
        """Go on after a freeze until the lease is looked at."""
        yield from self._harvests(world, run)
        if "certainty" not in self.guards:
            yield from self._claims(world, run)
        if world.lease == run:
            yield "renew", False, self._phase(world, run, "up")._replace(expired=False)
            return
        quitting = next(self._dies(world, run))[2]
        if world.claim is not None and world.tasks[world.claim].run == run:
            quitting = quitting._replace(step="waiting", claim=None)
        yield "quit", False, quitting

    def _dead(self, world: World, run: int) -> Iterator[Move]:
        return iter(())

    # -- workers --------------------------------------------------------------------------------------------------

    def _work(self, world: World, number: int, task: Task) -> Iterator[Move]:
        ended = world._replace(tasks=put(world.tasks, number, task._replace(phase="ended")))
        if world.claim == number or "fence" not in self.guards:
            yield "publish", False, ended._replace(published=task.grant)
        else:
            yield "publish nothing", False, ended


def explore(model: Model) -> tuple[int, str]:
    """Go through every world; return their number and the first promise that is broken, with the moves to it."""
    first = World(runs=("off",) * model.scope.runs)
    came_from: dict[World, tuple[str, World] | None] = {first: None}
    before: dict[World, list[World]] = {}
    waiting = deque([first])
    while waiting:
        world = waiting.popleft()
        if problem := broken(world):
            return len(came_from), f"{problem}: {story(world, came_from)}"
        for name, is_fault, after in model.moves(world):
            if not is_fault:
                before.setdefault(after, []).append(world)
            if after not in came_from:
                came_from[after] = (name, world)
                waiting.append(after)
    return len(came_from), stuck(came_from, before, model.scope.tasks)


def stuck(came_from: dict[World, tuple[str, World] | None], before: dict[World, list[World]], most_tasks: int) -> str:
    """Return how to get to a world from which no way without further faults leads to the good end."""
    ends = [world for world in came_from if is_good(world)]
    good = set(ends)
    while ends:
        for world in before.get(ends.pop(), ()):
            if world not in good:
                good.add(world)
                ends.append(world)
    # the model ends with its last task and run, which the archive does not
    bad = (world for world in came_from if world not in good and len(world.tasks) < most_tasks)
    found = next(bad, None)
    return "" if found is None else f"stuck: {story(found, came_from)}"


def story(world: World, came_from: dict[World, tuple[str, World] | None]) -> str:
    names = []
    while (step := came_from[world]) is not None:
        names.append(step[0])
        world = step[1]
    return " > ".join(reversed(names))
