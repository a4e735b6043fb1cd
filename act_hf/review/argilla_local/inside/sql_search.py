"""What stands in for Elasticsearch: the server's own SQL database. Runs in the server's environment."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from argilla_server.database import AsyncSessionLocal
from argilla_server.enums import MetadataPropertyType, RecordStatus, ResponseStatusFilter
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Question, Record, Response, Suggestion
from argilla_server.search_engine import (
    AndFilter,
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataFilterScope,
    RecordFilterScope,
    ResponseFilterScope,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    SuggestionFilterScope,
    TermsFilter,
    TermsMetrics,
)
from sqlalchemy import String, and_, cast, exists, false, func, not_, or_, select, true


class SQLSearch(SearchEngine):  # type: ignore[misc]  # the server is not installed where this is checked
    """
    Searches in the database, where every change already is, so that there is no index to keep.

    Words are found as parts of words. There is no search by vectors.
    """

    @classmethod
    async def new_instance(cls) -> SQLSearch:
        return cls()

    async def ping(self) -> bool:
        return True

    async def info(self) -> dict[str, str]:
        return {"name": "act_hf", "tagline": "a stand-in for trying out: searches in SQLite"}

    async def _nothing_to_keep(self, *_: Any, **__: Any) -> None:
        """The database is the index."""

    close = create_index = delete_index = configure_metadata_property = configure_index_vectors = _nothing_to_keep
    index_records = delete_records = partial_record_update = _nothing_to_keep
    update_record_response = delete_record_response = _nothing_to_keep
    update_record_suggestion = delete_record_suggestion = _nothing_to_keep

    async def search(
        self,
        dataset: Any,
        query: Any = None,
        filter: Any = None,
        sort: Any = None,
        offset: int = 0,
        limit: int = 100,
        user_id: Any = None,
    ) -> Any:
        """The ids of the records that fit, in order, and how many there are in all."""
        found = [Record.dataset_id == dataset.id, _has_words(dataset, query), _condition(filter)]
        order = [_order(one) for one in sort or ()] or [_shuffled(user_id)]
        ids = select(Record.id).where(*found).order_by(*order, Record.inserted_at, Record.id)
        async with AsyncSessionLocal() as db:
            total = await db.scalar(select(func.count()).select_from(Record).where(*found))
            page = await db.scalars(ids.offset(offset).limit(limit))
            return SearchResponses(items=[SearchResponseItem(record_id=one) for one in page], total=total)

    async def similarity_search(self, *_: Any, **__: Any) -> Any:
        raise UnprocessableEntityError("search by vectors needs Argilla's own search engine; this server has none")

    async def get_dataset_progress(self, dataset: Any) -> dict[str, int]:
        """How many records have which status."""
        if dataset.is_draft:
            return {}
        records = select(Record.status, func.count()).where(Record.dataset_id == dataset.id)
        return await _counted(records.group_by(Record.status))

    async def get_dataset_user_progress(self, dataset: Any, user: Any) -> dict[str, int]:
        """How many answers of this user have which status."""
        if dataset.is_draft:
            return {}
        answers = select(Response.status, func.count()).join(Record, Record.id == Response.record_id)
        answers = answers.where(Record.dataset_id == dataset.id, Response.user_id == user.id)
        return await _counted(answers.group_by(Response.status))

    async def compute_metrics_for(self, metadata_property: Any) -> Any:
        """The terms with their counts, or the least and the largest value."""
        each = func.json_each(Record.metadata_, _path(metadata_property.name)).table_valued("value")
        here = (Record.dataset_id == metadata_property.dataset_id, each.c.value.is_not(None))
        async with AsyncSessionLocal() as db:
            if metadata_property.type == MetadataPropertyType.terms:
                count = func.count().label("count")
                terms = select(each.c.value, count).select_from(Record).join(each, true()).where(*here)
                rows = (await db.execute(terms.group_by(each.c.value).order_by(count.desc(), each.c.value))).all()
                values = [{"term": str(term), "count": number} for term, number in rows]
                return TermsMetrics(total=sum(number for _, number in rows), values=values)
            ends = select(func.min(each.c.value), func.max(each.c.value)).select_from(Record).join(each, true())
            least, largest = (await db.execute(ends.where(*here))).one()
        whole = metadata_property.type == MetadataPropertyType.integer
        return (IntegerMetadataMetrics if whole else FloatMetadataMetrics)(min=least, max=largest)


async def _counted(statement: Any) -> dict[str, int]:
    async with AsyncSessionLocal() as db:
        counts = {str(status.value): number for status, number in (await db.execute(statement)).all()}
    return {"total": sum(counts.values()), **counts}


def _path(*names: str) -> str:
    return "$" + "".join(f'."{name}"' for name in names)


def _has_words(dataset: Any, query: Any) -> Any:
    """Every word, or "several in quotes", in any of the fields."""
    if query is None:
        return true()
    asked = query if isinstance(query, str) else query.q
    wanted = None if isinstance(query, str) else query.field
    names = [wanted] if wanted else [field.name for field in dataset.fields if not field.is_image]
    words = [quoted or word for quoted, word in re.findall(r'"([^"]+)"|(\S+)', asked)]
    return and_(true(), *(or_(false(), *(_word_in(name, word) for name in names)) for word in words))


def _word_in(name: str, word: str) -> Any:
    # json_tree also reaches the messages of a chat, and JSON's escapes are decoded.
    leaves = func.json_tree(Record.fields, _path(name)).table_valued("atom")
    return exists(select(leaves.c.atom).where(cast(leaves.c.atom, String).icontains(word, autoescape=True)))


def _condition(asked: Any) -> Any:
    if asked is None:
        return true()
    if isinstance(asked, AndFilter):
        return and_(true(), *(_condition(one) for one in asked.filters))
    scope = asked.scope
    if isinstance(scope, RecordFilterScope):
        return _fits(getattr(Record, scope.property), asked, _record_value(scope.property))
    if isinstance(scope, MetadataFilterScope):
        return _any_value(Record.metadata_, _path(scope.metadata_property), asked)
    if isinstance(scope, SuggestionFilterScope):
        return exists(_suggestions(scope.question).where(_suggested(scope.property, asked)))
    if isinstance(scope, ResponseFilterScope) and scope.question:
        answered = _any_value(Response.values, _path(scope.question, "value"), asked)
        return exists(_responses(scope.user).where(answered))
    if isinstance(scope, ResponseFilterScope) and isinstance(asked, TermsFilter):
        return _has_response_status(scope.user, asked.values)
    raise UnprocessableEntityError(f"cannot search by {scope}")


def _fits(value: Any, asked: Any, read: Any = lambda given: given) -> Any:
    if isinstance(asked, TermsFilter):
        return value.in_([read(one) for one in asked.values])
    ends = [value >= read(asked.ge)] if asked.ge is not None else []
    return and_(*ends, value <= read(asked.le)) if asked.le is not None else and_(*ends)


def _any_value(column: Any, path: str, asked: Any) -> Any:
    """Whether the value there, or one in the list there, fits."""
    each = func.json_each(column, path).table_valued("value")
    value = cast(each.c.value, String) if isinstance(asked, TermsFilter) else each.c.value
    return exists(select(each.c.value).where(_fits(value, asked)))


def _record_value(name: str) -> Any:
    readers = {"id": UUID, "status": RecordStatus, "inserted_at": _moment, "updated_at": _moment}
    return readers.get(str(name), str)


def _moment(given: Any) -> datetime:
    # The database keeps UTC and does not say so.
    moment = datetime.fromisoformat(given) if isinstance(given, str) else datetime.fromtimestamp(given, UTC)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _suggestions(question: str) -> Any:
    rows = select(Suggestion.id).join(Question, Question.id == Suggestion.question_id)
    return rows.where(Suggestion.record_id == Record.id, Question.name == question).correlate(Record)


def _suggested(name: str, asked: Any) -> Any:
    column = getattr(Suggestion, name)
    return _any_value(column, "$", asked) if name in ("value", "score") else _fits(cast(column, String), asked)


def _responses(user: Any) -> Any:
    rows = select(Response.id).where(Response.record_id == Record.id).correlate(Record)
    return rows.where(Response.user_id == user.id) if user else rows


def _has_response_status(user: Any, statuses: list[str]) -> Any:
    """`pending` is a record without any answer: of this user, or of anybody where no user is given."""
    given = [one for one in statuses if one != ResponseStatusFilter.pending]
    either = [exists(_responses(user).where(Response.status.in_(given)))] if given else []
    if len(given) < len(statuses):
        either.append(not_(exists(_responses(user))))
    return or_(false(), *either)


def _order(asked: Any) -> Any:
    value = _sorted_by(asked.scope)
    return (value.desc() if asked.order == "desc" else value.asc()).nulls_last()


def _sorted_by(scope: Any) -> Any:
    if isinstance(scope, RecordFilterScope):
        return getattr(Record, scope.property)
    if isinstance(scope, MetadataFilterScope):
        return func.json_extract(Record.metadata_, _path(scope.metadata_property))
    if isinstance(scope, SuggestionFilterScope):
        column = getattr(Suggestion, scope.property)
        value = func.json_extract(column, "$") if scope.property in ("value", "score") else column
        return _suggestions(scope.question).with_only_columns(func.min(value)).scalar_subquery()
    value = func.json_extract(Response.values, _path(scope.question, "value")) if scope.question else Response.status
    return _responses(scope.user).with_only_columns(func.min(value)).scalar_subquery()


def _shuffled(user_id: Any) -> Any:
    """Without a sort, every user has an order of their own, which stays: so people do not all begin at one end."""
    if user_id is None:
        return Record.inserted_at
    digits, start = cast(Record.id, String), int(user_id) % 32
    return func.substr(digits, start + 1) + func.substr(digits, 1, start)


SearchEngine.register("sql")(SQLSearch)
