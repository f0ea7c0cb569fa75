"""Several registries over one storage and one database, with nginx in front: in the place of one ``registry serve``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tests.support.nginx import Nginx
from tests.support.servers import START_TIMEOUT, STOP_TIMEOUT, RegistryProcess, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType


class Replicas:
    """``count`` registries of one configuration. Its address is nginx's; requests go to the replicas in turn.

    ``config`` has to name a storage and a database that all of them share. ``next_upstream``: see ``Nginx``.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Mapping[str, object]],
        *,
        count: int = 2,
        next_upstream: bool = False,
    ) -> None:
        self.directory = directory
        self.replicas = [RegistryProcess(directory / f"replica-{number}", config) for number in range(1, count + 1)]
        ports = [replica.port for replica in self.replicas]
        self.nginx = Nginx(directory / "nginx", ports, next_upstream=next_upstream)

    @property
    def port(self) -> int:
        """Where nginx listens."""
        return self.nginx.port

    @property
    def address(self) -> str:
        """``host:port``, as it stands in an image reference."""
        return self.nginx.address

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return self.nginx.url

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since; single replicas may be down."""
        return self.nginx.running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start what does not run, all replicas at the same time; return once each of them and nginx answer."""
        down = [replica for replica in self.replicas if not replica.running]
        try:
            with ThreadPoolExecutor(max_workers=len(self.replicas)) as pool:
                for started in [pool.submit(replica.start, timeout) for replica in down]:
                    started.result()
            if not self.nginx.running:
                self.nginx.start()
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop nginx, then each replica that runs, cleanly; raises the first replica's error after all are down."""
        if self.nginx.running:
            self.nginx.stop()
        errors = []
        for replica in self.replicas:
            if replica.running:
                try:
                    replica.stop(timeout)
                except ServerError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def kill(self, index: int | None = None) -> None:
        """SIGKILL one replica, counted from 0, or everything; nginx goes on dealing requests to a dead replica."""
        if index is not None:
            self.replicas[index].kill()
            return
        for replica in self.replicas:
            with suppress(ServerError):
                replica.kill()
        if self.nginx.running:
            self.nginx.kill()

    def restart(self, index: int | None = None, timeout: float = START_TIMEOUT) -> None:
        """Stop cleanly what runs and start again: one replica while nginx and the rest go on, or everything."""
        if index is not None:
            self.replicas[index].restart(timeout)
            return
        self.stop()
        self.start(timeout)

    def answers(self, path: str) -> bool:
        """Tell whether GET ``path`` is 200 now at every replica, asked without nginx."""
        return all(replica.answers(path) for replica in self.replicas)

    def processes(self) -> Iterator[int]:
        """Yield the pid of every living process of every replica that runs."""
        for replica in self.replicas:
            if replica.running:
                yield from replica.processes()

    def peak_memory(self) -> int:
        """Return the largest sum, over one replica's processes, of what each ever had resident, in bytes."""
        return max(replica.peak_memory() for replica in self.replicas if replica.running)

    def memory(self) -> int:
        """Return the largest sum, over one replica's processes, of what each has resident, in bytes."""
        return max(replica.memory() for replica in self.replicas if replica.running)

    def log_tail(self) -> str:
        """Return the ends of all logs, each below its path."""
        parts: list[RegistryProcess | Nginx] = [*self.replicas, self.nginx]
        return "\n".join(f"==> {part.log_path} <==\n{part.log_tail()}" for part in parts)
