"""Whether a namespace may be written to: not where it was opened for reading only, nor where its block device is in use.

What there is against it is found out once, at opening, and kept as text. Where there is something, no command takes the short
way (:mod:`aionvme.mover`), and the long one asks here (:func:`aionvme.prepare.refuse_writing`).
"""

from pathlib import Path

from aionvme.errors import NamespaceInUseError, ReadOnlyError, UsageError
from aionvme.in_use import users_of, users_of_subsystem


class Guard:
    """What there is against writing to one open namespace, or against what a controller may do to those that it has."""

    def __init__(
        self,
        target: str,
        *,
        block_name: str | None = None,
        owner: Path | None = None,
        readonly: bool = False,
        force: bool = False,
    ) -> None:
        """``block_name`` is the namespace's block device, and ``owner`` its controller or subsystem in sysfs; None of what is
        emulated, which nobody else can use. With ``force`` nothing is looked at."""
        self.readonly = readonly
        self._target = target
        looks = not (readonly or force)
        self._block_name = block_name if looks else None
        self._owner = owner if looks else None
        self.why_not = "it was opened with readonly=True" if readonly else self._in_use()
        """Why commands that change something are refused, as found at opening; None where they are not."""

    def error(self, what: str) -> UsageError:
        """What to raise for a command that is refused for :attr:`why_not`."""
        return self._error(what, self.why_not or "")

    def look_again(self, what: str) -> None:
        """Raise where there is something against a command that is rare and destroys much: looked at anew, if at all."""
        why_not = self.why_not or self._in_use()
        if why_not is not None:
            raise self._error(what, why_not)

    def look_around(self, what: str) -> None:
        """The same for a command that may destroy every namespace of the NVM subsystem."""
        users = users_of_subsystem(self._owner) if self._owner is not None else []
        if users:
            raise self._error(what, _text(users))

    def _in_use(self) -> str | None:
        users = users_of(self._block_name) if self._block_name is not None else []
        return _text(users) if users else None

    def _error(self, what: str, why_not: str) -> UsageError:
        if self.readonly:
            return ReadOnlyError(f"{what} may change what {self._target} holds, and {why_not}")
        return NamespaceInUseError(
            f"{what} may change what {self._target} holds, and {why_not}: end that and open it again, or say force=True (at the "
            "command line --force)"
        )


def _text(users: list[str]) -> str:
    return "; ".join(users)
