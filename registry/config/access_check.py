"""*Access check*: mistakes about rights that show only where sections are seen together."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from registry.config.file import ConfigProblem
from registry.config.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config.access_sections import AccessRule, AuthSettings
    from registry.config.settings import Settings

_CLAIM = re.compile(r"\{[^{}]+\}")


def check_access(settings: Settings) -> list[ConfigProblem]:
    """Settings with which strangers would get in, or passwords would go over the network in plain text."""
    return [*_check_auth(settings), *_check_rules(settings)]


def is_bare(settings: Settings) -> bool:
    """Whether other machines may speak plain HTTP to it, as far as the settings tell."""
    return settings.http.tls is None and not is_loopback(settings.http.host)


def _check_auth(settings: Settings) -> Iterator[ConfigProblem]:
    auth = settings.auth
    if auth is None:
        if settings.metrics.protect:
            yield ConfigProblem("metrics.protect", "needs auth: without it every caller may do everything", "")
        return
    yield from _check_users(auth)
    names = [provider.name for provider in auth.oidc]
    if len(set(names)) < len(names):
        yield ConfigProblem("auth.oidc", "has two providers of one name", "")
    yield from _check_certificates(settings, auth)
    if auth.oidc and settings.access is None:
        message = "needs access.rules that name its identities: without any, every account of it would get nothing"
        yield ConfigProblem("auth.oidc", message, "")
    if is_bare(settings) and settings.http.external_url is None and not auth.insecure:
        message = (
            "is missing: passwords would cross the network in plain text; name the https address of the proxy in front,"
            " or set http.tls, or auth.insecure"
        )
        yield ConfigProblem("http.external_url", message, "")


def _check_users(auth: AuthSettings) -> Iterator[ConfigProblem]:
    """A file that a server would miss; the settings alone may name it before the first user makes it."""
    if auth.htpasswd is not None and not os.path.isfile(auth.htpasswd.file):  # noqa: PTH113 - Path.is_file raises where a parent may not be entered
        message = f"{auth.htpasswd.file} is not the path of a file; registry user add makes it with its first user"
        yield ConfigProblem("auth.htpasswd.file", message, "")


def _check_certificates(settings: Settings, auth: AuthSettings) -> Iterator[ConfigProblem]:
    """Settings with which no certificate is ever seen."""
    certificates, tls = auth.certificates, settings.http.tls
    if certificates is None:
        return
    if certificates.header is not None and not settings.http.trusted_proxies:
        message = "needs http.trusted_proxies: a header counts from these alone"
        yield ConfigProblem("auth.certificates.header", message, "")
    if certificates.header is None and (tls is None or tls.client_ca is None):
        message = "needs http.tls.client_ca, or the header in which a proxy passes certificates on"
        yield ConfigProblem("auth.certificates", message, "")


def _check_rules(settings: Settings) -> Iterator[ConfigProblem]:
    for number, rule in enumerate(settings.access.rules if settings.access else (), 1):
        for entry in rule.who:
            yield from _check_entry(settings.auth, rule, entry, f"access.rules.{number - 1}.who")


def _check_entry(auth: AuthSettings | None, rule: AccessRule, entry: str, key: str) -> Iterator[ConfigProblem]:
    kind, _, name = entry.partition(":")
    if kind != "oidc":
        return
    provider = next((each for each in (auth.oidc if auth else ()) if each.name == name.partition("/")[0]), None)
    if provider is None:
        yield ConfigProblem(key, f"{entry} names no provider of auth.oidc", "")
    elif not (provider.any_identity or "/" in name or rule.claims or all(map(_CLAIM.search, rule.repositories))):
        message = f"{entry} is every account of the provider; add claims, or set any_identity of the provider"
        yield ConfigProblem(key, message, "")
