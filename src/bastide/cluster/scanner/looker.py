"""Looking into images for pods: with their pull secrets, in processes of their own."""

import asyncio
from dataclasses import replace
from pathlib import Path

from bastide.cluster.gate.report import ImageReport
from bastide.cluster.scanner.answer import Answer
from bastide.cluster.scanner.job import RegistryOptions, ScanJob
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.process import run_job
from bastide.cluster.scanner.referrers import statements_of
from bastide.cluster.scanner.scans import Source, with_notes
from bastide.cluster.scanner.secrets import PodSecrets, read_secrets
from bastide.errors import BastideError, UnavailableError
from bastide.kube.client import ApiClient

_STATEMENT_SECONDS = 30.0


class ProcessLooker:
    """The ``Looker`` of a cluster.

    Args:
        client: of the API server, for pull secrets.
        options: which registries may be asked.
        limits: of one scan.
        work: folder for what is pulled.
        unconfined: see ``ScanJob``.
    """

    def __init__(
        self, client: ApiClient, options: RegistryOptions, limits: ScanLimits, work: Path, *, unconfined: bool = False
    ) -> None:
        self._client = client
        self._options = options
        self._limits = limits
        self._work = work
        self._unconfined = unconfined

    async def scan(self, source: Source) -> Answer:
        """See ``Looker.scan``."""
        held = await self._secrets(source)
        answer = await run_job(self._job(source, held), self._work)
        return replace(answer, report=_noted(answer.report, held)) if answer.report is not None else answer

    async def statements(self, source: Source) -> tuple[bytes, ...]:
        """See ``Looker.statements``."""
        job = self._job(source, await self._secrets(source))
        job = replace(job, limits=replace(job.limits, seconds=_STATEMENT_SECONDS))
        try:
            return await asyncio.to_thread(lambda: statements_of(job.repository(), job.digest))
        except UnavailableError:
            raise
        except BastideError:  # a registry that is not listed has nothing to say
            return ()

    async def _secrets(self, source: Source) -> PodSecrets:
        return await read_secrets(self._client, source.namespace, source.service_account, source.pull_secrets)

    def _job(self, source: Source, held: PodSecrets) -> ScanJob:
        return ScanJob(
            image=source.image,
            credentials=held.for_image(source.image),
            options=self._options,
            limits=self._limits,
            unconfined=self._unconfined,
        )


def _noted(report: ImageReport, held: PodSecrets) -> ImageReport:
    if report.failure is None:
        return report
    return replace(report, failure=with_notes(report.failure, held.notes))
