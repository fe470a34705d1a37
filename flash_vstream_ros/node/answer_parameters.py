"""Part of the parameter table: questions, the prefix cache, and the messages that the node publishes."""

from __future__ import annotations

from .parameter_spec import ParameterSpec

MAX_QUEUE = 64  # questions
SUMMARY_PROMPT = "Describe in one or two sentences what happened."
REPORT_PROMPT = "These are notes of what happened. Say in two or three sentences what happened, the unusual first."

ANSWER_PARAMETERS = (
    ParameterSpec(
        "question.queue",
        4,
        "Capacity of the request queue; if it is full, a question is answered BUSY [questions]",
        (1, MAX_QUEUE),
        live=True,
        field="engine.question_queue",
    ),
    ParameterSpec("question.deadline_s", 30.0, "Default deadline of a question [s]", (0.1, 3600.0), live=True),
    ParameterSpec(
        "question.max_deadline_s",
        120.0,
        "Longest deadline that a client can set; longer ones are reduced to it [s]",
        (0.1, 86400.0),
        live=True,
        field="question_limits.deadline_s",
    ),
    ParameterSpec("question.max_new_tokens", 128, "Default length limit of an answer [tokens]", (1, 4096), live=True),
    ParameterSpec(
        "question.max_answer_tokens",
        1024,
        "Longest answer that a client can ask for; longer ones are reduced to it [tokens]",
        (1, 65535),
        live=True,
        field="question_limits.answer_tokens",
    ),
    ParameterSpec(
        "question.max_chars",
        4096,
        "Longest question accepted [characters]",
        (1, 1000000),
        live=True,
        field="engine.max_question_chars",
    ),
    ParameterSpec("question.evidence", 3, "Memory entries returned as evidence [entries]", (0, 64), live=True),
    ParameterSpec(
        "question.second_look",
        0.0,
        "Second look: the stored clusters behind the entries that a question attends to most are added to its prompt, "
        "up to this share of the memory's visual tokens; needs memory.retention hierarchical; 0: no second look",
        (0.0, 0.25),
        live=True,
    ),
    ParameterSpec(
        "prefix_cache.max_lag_s",
        0.0,
        "How far the prefix cache may lag behind the newest slot when it answers a question; 0: newer slots are "
        "prefilled first [s]",
        (0.0, 3600.0),
        live=True,
    ),
    ParameterSpec(
        "prefix_cache.tail_slots",
        0,
        "Newest slots appended to a prefix cache that lags; no model was trained with this order [slots]",
        (0, 64),
        live=True,
    ),
    ParameterSpec(
        "prefix_cache.stable_order",
        False,
        "Keep the order of cached entries and append new ones, so that less is prefilled again; position ids are "
        "unchanged, but no model was trained with this order",
        live=True,
    ),
    ParameterSpec(
        "prefix_cache.max_device_share",
        0.5,
        "Largest share of device time for background prefill; 0: none, questions still fill the cache",
        (0.0, 1.0),
        live=True,
    ),
    ParameterSpec(
        "prefix_cache.chunk_s",
        0.03,
        "Target duration of one prefill chunk, at least 64 tokens; frames and questions wait for at most one chunk; "
        "longer chunks are faster overall [s]",
        (0.001, 10.0),
        live=True,
    ),
    ParameterSpec("prefix_cache.max_chunk_tokens", 2048, "Largest prefill chunk [tokens]", (1, 1000000), live=True),
    ParameterSpec(
        "prefix_cache.max_mib",
        1024,
        "Largest prefix cache: keys, values and embeddings; 0: no cache [MiB]",
        (0, 1048576),
        live=True,
    ),
    ParameterSpec("status.period_s", 1.0, "Period of ~/status [s]", (0.02, 60.0), live=True),
    ParameterSpec(
        "diagnostics.period_s", 1.0, "Period of /diagnostics, by the system clock; 0: off [s]", (0.0, 60.0), live=True
    ),
    ParameterSpec(
        "memory_view.period_s",
        2.0,
        "Period of ~/memory_view/compressed and ~/places, each only while somebody subscribes to it; 0: off [s]",
        (0.0, 3600.0),
        live=True,
    ),
    ParameterSpec(
        "summary.period_s", 60.0, "Period of scene_summary, by the node's clock; 0: off [s]", (0.0, 86400.0), live=True
    ),
    ParameterSpec(
        "summary.prompt",
        SUMMARY_PROMPT,
        "The question that a scene summary answers",
        live=True,
    ),
    ParameterSpec("summary.max_new_tokens", 64, "Length limit of a scene summary [tokens]", (1, 4096), live=True),
    ParameterSpec(
        "report.prompt",
        REPORT_PROMPT,
        "The question that the summary of an hour or a day answers, after the summaries of its parts",
        live=True,
    ),
    ParameterSpec(
        "report.max_new_tokens", 128, "Length limit of the summary of an hour or a day [tokens]", (1, 4096), live=True
    ),
)
