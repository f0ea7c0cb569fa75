"""Questions are answered by versions, each of them, whatever a callback does."""

from __future__ import annotations

import asyncio

import pytest

from registry.api.cache.freshness import Question, answer


def test_a_question_is_answered_by_the_version_of_its_repository() -> None:
    answers: list[bool] = []
    asked = [("a", 1), ("a", 2), ("b", 2), ("absent", 1)]
    answer([Question(name, version, answers.append) for name, version in asked], {"a": 1, "b": 2})
    assert answers == [True, False, True, False]


def test_a_callback_that_raises_does_not_keep_the_others_waiting() -> None:
    answers: list[bool] = []

    def fail(_current: bool) -> None:
        raise ValueError("told")

    async def story() -> None:
        callbacks = (answers.append, fail, answers.append)
        with pytest.raises(ValueError, match="told"):
            answer([Question("a", 1, callback) for callback in callbacks], {"a": 1})
        await asyncio.sleep(0)

    asyncio.run(story())
    assert answers == [True, True]
