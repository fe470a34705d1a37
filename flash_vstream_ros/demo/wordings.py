"""Wordings of every kind of question, with the placeholders {room}, {thing} and {kind}."""

from __future__ import annotations

WORDINGS: dict[str, tuple[str, ...]] = {
    "scene": (
        "What do you see now?",
        "What can you see right now?",
        "What is in front of you?",
        "Tell me what you see.",
        "What is in the picture at the moment?",
    ),
    "room_now": (
        "Which room are you in now?",
        "Where are you now?",
        "What room is this?",
        "Tell me which room you are in.",
        "In which room are you at the moment?",
    ),
    "room_first": (
        "Which room did you visit first?",
        "Where did you start?",
        "In which room did the patrol begin?",
        "What was the first room?",
        "Tell me which room you were in first.",
    ),
    "room_before": (
        "Which room were you in before the {room}?",
        "Where were you before you last went to the {room}?",
        "Which room did you last come to the {room} from?",
        "What room came right before the {room} the last time?",
        "Tell me the room before your last visit to the {room}.",
    ),
    "room_before_this": (
        "Which room were you in before this one?",
        "Where were you before you came here?",
        "Which room did you come from?",
        "What was the previous room?",
        "Tell me the room that you were in before.",
    ),
    "seen": (
        "Did you ever see a {thing}?",
        "Have you seen a {thing}?",
        "Was there a {thing} anywhere?",
        "Did you come across a {thing}?",
        "Tell me whether you saw a {thing}.",
    ),
    "where": (
        "Where did you last see the {thing}?",
        "Where is the {thing}?",
        "Which room was the {thing} in when you last saw it?",
        "In which room did you last see a {thing}?",
        "Tell me where the {thing} was last.",
    ),
    "where_first": (
        "Where did you first see the {thing}?",
        "Which room was the {thing} in when you first saw it?",
        "In which room did you first see a {thing}?",
        "Where was the {thing} the first time?",
        "Tell me where the {thing} was at first.",
    ),
    "colour": (
        "What colour was the {kind} in the {room}?",
        "Which colour did the {kind} in the {room} have?",
        "What was the colour of the {kind} that you saw in the {room}?",
        "What color was the {kind} in the {room}?",
        "Tell me the colour of the {kind} in the {room}.",
    ),
    "when": (
        "How many minutes ago did you last see the {thing}?",
        "When did you last see the {thing}?",
        "How long ago did you last see a {thing}?",
        "When was the {thing} last in view?",
        "Tell me how long ago you last saw the {thing}.",
    ),
    "when_room": (
        "How many minutes ago were you last in the {room}?",
        "When were you last in the {room}?",
        "How long ago were you in the {room}?",
        "When did you last visit the {room}?",
        "Tell me how long ago you were last in the {room}.",
    ),
    "count": (
        "How often did you visit the {room}?",
        "How many times were you in the {room}?",
        "How many visits to the {room} were there?",
        "How often have you been in the {room}?",
        "Tell me how many times you went to the {room}.",
    ),
    "person": (
        "Did a person appear?",
        "Did you see a person?",
        "Have you seen anybody?",
        "Was anybody there?",
        "Tell me whether you saw a person.",
    ),
    "person_where": (
        "Where did you see a person?",
        "Where did you last see a person?",
        "Which room was the person in?",
        "In which room did you last see somebody?",
        "Tell me where the person was.",
    ),
    "change": (
        "What changed in the {room} since the visit before?",
        "What changed in the {room} between your last two visits?",
        "What was different in the {room} the last time?",
        "Which change did you notice in the {room}?",
        "Tell me what changed in the {room}.",
    ),
    "describe": (
        "Describe the scene in one sentence.",
        "Describe what you see in one sentence.",
        "Say in one sentence where you are and what you see.",
        "Tell me in one sentence where you are and what is there.",
    ),
    "patrol": (
        "Describe in one or two sentences what happened.",
        "What happened so far?",
        "Summarize the patrol in one or two sentences.",
        "Tell me which rooms you were in and what you saw.",
        "Which rooms did you visit, and what did you see there?",
    ),
}
# The kind of each form of question whose kind has another name than the form.
KIND_OF = {"where_first": "where", "person_where": "person", "room_before_this": "room_before"}
