"""What is reserved on a node: the grant files, the reservations and who may use which, put together."""

from collections.abc import Callable
from pathlib import Path

from furiosa.broker.arbiter import Arbiter
from furiosa.broker.reservations.access import Access
from furiosa.broker.reservations.grant_files import GrantFiles
from furiosa.broker.reservations.keeper import Keeper
from furiosa.common.names import DeviceFile


class Reserved:
    """In the state folder `state`. `files`, `audit` are of Keeper, `containers_need_grants` is of Access."""

    def __init__(
        self,
        state: Path,
        arbiter: Arbiter,
        files: Callable[[], tuple[DeviceFile, ...]],
        audit: Callable[..., None],
        *,
        containers_need_grants: bool,
    ) -> None:
        """Raises: OSError, ValueError when what was written down cannot be used."""
        self._arbiter = arbiter
        self.grant_files = GrantFiles(state / "grants")
        self.grant_files.offer(files())
        path = state / "reservations.json"
        self.keeper = Keeper(path, self.grant_files, arbiter, files, audit)
        self.access = Access(
            self.grant_files,
            self.keeper,
            self._is_free,
            containers_need_grants=containers_need_grants,
        )

    def _is_free(self, file: DeviceFile) -> bool:
        return not any(file.overlaps(held) for held, _ in self._arbiter.book.held_files())
