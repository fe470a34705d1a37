"""Basic templates and synonyms of every form of question. A part of each is held out: training never uses it.

`[a|b]` is a choice and `<name>` a synonym; {room}, {thing} and {kind} are placeholders. The templates in `INDIRECT`
are indirect questions, which follow a lead such as "can you tell me".
"""

from __future__ import annotations

from typing import NamedTuple


class Parts(NamedTuple):
    """Texts for training, and texts held out for measurements."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


SYNONYMS: dict[str, Parts] = {
    "see": Parts(("see", "notice", "spot", "come across"), ("observe", "detect")),
    "seen": Parts(("seen", "noticed", "spotted", "come across"), ("observed", "detected")),
    "saw": Parts(("saw", "noticed", "spotted", "came across"), ("observed", "detected")),
    "now": Parts(("now", "right now", "at the moment", "currently"), ("at present", "at this moment")),
    "person": Parts(("a person", "anybody", "anyone", "somebody", "someone"), ("a human", "people")),
    "the_person": Parts(("the person", "a person", "somebody", "someone"), ("the human", "a human")),
    "what_room": Parts(("which room", "what room"), ("which of the rooms",)),
    "how_long_ago": Parts(("how long ago", "how many minutes ago", "when"), ("at what time", "how much time ago")),
    "how_often": Parts(("how often", "how many times"), ("on how many occasions",)),
    "visit": Parts(("visit", "go to", "enter", "go into"), ("drive to", "stop by")),
    "visited": Parts(("visited", "went to", "entered", "went into"), ("drove to", "stopped by")),
    "been_in": Parts(("been in", "been to", "visited"), ("driven to",)),
    "colour": Parts(("colour", "color"), ("shade",)),
    "changed": Parts(("changed", "is different", "was different", "is new or gone"), ("was altered", "has moved")),
    "change": Parts(("change", "difference"), ("alteration",)),
    "begin": Parts(("begin", "start"), ("set off", "set out")),
    "describe": Parts(("describe", "tell me about", "give me a description of"), ("depict", "characterise")),
    "summarize": Parts(("summarize", "sum up", "recap"), ("outline", "review")),
    "patrol": Parts(("patrol", "tour", "trip", "drive"), ("journey", "sortie")),
}
LEADS = Parts(
    ("tell me", "please tell me", "can you tell me", "could you tell me", "do you know", "i want to know", "say"),
    ("would you mind telling me", "i am curious", "it would help me to know"),
)
BEFORE = Parts(("please, ", "robot, ", "hey robot, ", "hi, ", "excuse me, ", "ok, "), ("dear robot, ", "well then, "))
AFTER = Parts((", please", " please", ", robot", ", thanks"), (", would you", " if i may ask"))
WORDS = {**SYNONYMS, "leads": LEADS, "before": BEFORE, "after": AFTER}  # synonyms, and phrases around a question

DIRECT: dict[str, Parts] = {
    "scene": Parts(
        (
            "what [do|can] you see [|<now>]",
            "what is [in front of you|there|in view|in the picture|on the image] [|<now>]",
            "what are you [looking at|seeing] [|<now>]",
            "[show|name|list] [|me] what you see [|<now>]",
            "what [things|objects] do you see [|<now>]",
        ),
        ("what does the camera show [|<now>]", "what is before your eyes [|<now>]", "what is visible [|<now>]"),
    ),
    "room_now": Parts(
        (
            "<what_room> are you in [|<now>]",
            "where are you [|<now>]",
            "[in|] <what_room> are you [|<now>]",
            "<what_room> is this",
            "<what_room> do you see [|<now>]",
            "where [is the robot|do you stand] [|<now>]",
        ),
        ("what is your [location|position] [|<now>]", "the room around you is which one [|<now>]"),
    ),
    "room_first": Parts(
        (
            "<what_room> did you <visit> first",
            "where did [you|the <patrol>] <begin>",
            "in <what_room> did [you|the <patrol>|your <patrol>] <begin>",
            "what was the first room [|that you <visited>]",
            "<what_room> were you in [first|at first|at the start|in the beginning]",
        ),
        ("what was your starting point", "which room came first on the <patrol>"),
    ),
    "room_before": Parts(
        (
            "<what_room> were you in [right|just|] before the {room}",
            "where were you before you [last|] <visited> the {room} [|the last time]",
            "[from|] <what_room> did you [last|] come to the {room} [from|]",
            "what [room|] came right before the {room} [|the last time]",
            "[where|from where] did you [last|] <visit> the {room} from",
            "<what_room> did you leave to <visit> the {room}",
        ),
        ("what preceded your last visit to the {room}", "through which room did you get to the {room} last"),
    ),
    "room_before_this": Parts(
        (
            "<what_room> were you in before [this one|this room|here|]",
            "where were you before [|you came here|this]",
            "<what_room> did you [just|] come from",
            "where did you [just|] come from",
            "what was the [previous|last] room [|before this one]",
            "<what_room> did you [just|] leave",
        ),
        ("what room is behind you", "which room did you visit prior to this one"),
    ),
    "seen": Parts(
        (
            "did you [ever|] <see> [a|the|any] {thing} [|anywhere|somewhere]",
            "have you [ever|] <seen> [a|the|any] {thing} [|anywhere|so far]",
            "was there [a|any] {thing} [|anywhere|somewhere]",
            "is there a {thing} [in the house|somewhere|anywhere]",
            "[a|any] {thing} [|anywhere|so far]",
            "do you remember [seeing|] [a|the] {thing}",
        ),
        ("did any {thing} catch your eye", "has a {thing} been in view", "does the house have a {thing}"),
    ),
    "where": Parts(
        (
            "where did you [last|] <see> [a|the] {thing} [|last]",
            "where is [the|my] {thing} [|<now>]",
            "where was the {thing} [|last|the last time|when you last <saw> it]",
            "[in|] <what_room> [is|was] the {thing} [|in|when you last <saw> it]",
            "in <what_room> did you [last|] <see> [a|the] {thing}",
            "where can i find [the|my] {thing}",
        ),
        ("i am looking for the {thing}", "which room has the {thing}", "find the {thing}"),
    ),
    "where_first": Parts(
        (
            "where did you first <see> [a|the] {thing}",
            "<what_room> was the {thing} in [at first|when you first <saw> it|the first time]",
            "in <what_room> did you first <see> [a|the] {thing}",
            "where was the {thing} [at first|the first time|in the beginning|when you first <saw> it]",
            "where did you <see> [a|the] {thing} [first|for the first time]",
        ),
        ("where was the {thing} originally", "where did the {thing} initially stand"),
    ),
    "colour": Parts(
        (
            "[what|which] <colour> [is|was] the {kind} in the {room}",
            "[what|which] <colour> did the {kind} in the {room} have",
            "what [is|was] the <colour> of the {kind} [that you <saw> in|in] the {room}",
            "in the {room}, [what|which] <colour> [was|is] the {kind}",
            "the {kind} in the {room} [has|is of|had|was of] [what|which] <colour>",
        ),
        ("how is the {kind} in the {room} painted", "the {room} has a {kind} of what <colour>"),
    ),
    "when": Parts(
        (
            "<how_long_ago> did you [last|] <see> [a|the] {thing} [|last]",
            "<how_long_ago> was the {thing} [last|] [in view|<seen>]",
            "<how_long_ago> have you [last|] <seen> [a|the] {thing}",
            "how [long|many minutes] is it since you [last|] <saw> [a|the] {thing}",
        ),
        ("how old is your last view of the {thing}", "how much time has passed since the {thing} was in view"),
    ),
    "when_room": Parts(
        (
            "<how_long_ago> were you [last|] in the {room} [|last]",
            "<how_long_ago> did you [last|] <visit> the {room} [|last]",
            "<how_long_ago> was your last visit to the {room}",
            "how [long|many minutes] is it since you [last|] <visited> the {room}",
        ),
        ("how old is your last visit to the {room}", "how much time has passed since the {room}"),
    ),
    "count": Parts(
        (
            "<how_often> did you <visit> the {room}",
            "<how_often> were you in the {room} [|so far]",
            "how many visits to the {room} were there",
            "<how_often> have you <been_in> the {room} [|so far]",
            "what is the number of [visits to|times you <visited>] the {room}",
        ),
        ("count your visits to the {room}", "the {room}, how many times"),
    ),
    "person": Parts(
        (
            "did [<person>] [appear|show up|come by]",
            "did you [ever|] <see> <person> [|anywhere]",
            "have you [ever|] <seen> <person> [|so far|anywhere]",
            "was <person> [there|around|in the house|at home]",
            "was there <person> [|anywhere|around]",
        ),
        ("did you meet <person>", "has <person> been in view"),
    ),
    "person_where": Parts(
        (
            "where did you [last|] <see> <the_person>",
            "where was <the_person> [|last|the last time]",
            "[in|] <what_room> was <the_person> [in|]",
            "in <what_room> did you [last|] <see> <the_person>",
        ),
        ("where did <the_person> stand", "which room had <the_person> in it"),
    ),
    "change": Parts(
        (
            "what <changed> in the {room} [|since the visit before|since last time|the last time]",
            "what <changed> in the {room} between [your|the] last two visits",
            "[which|what] <change> did you [notice|see|find] in the {room}",
            "did [something|anything] change in the {room}",
            "[is|was] [anything|something] [new|different|missing] in the {room}",
            "[did|has] [something|anything] [appear|disappear|appeared|disappeared] in the {room}",
        ),
        ("compare your last two visits to the {room}", "how did the {room} change"),
    ),
    "describe": Parts(
        (
            "<describe> [the scene|what you see|the view|the picture] [|<now>] in one sentence",
            "say in [one|a] sentence where you are and what you see",
            "in [one|a] sentence, where are you and what do you see",
            "where are you and what [do you see|is there] [|<now>]",
        ),
        ("put the view into one sentence", "one sentence about what is around you"),
    ),
    "patrol": Parts(
        (
            "<describe> [in one or two sentences|briefly|shortly] what [happened|you did|you <saw>]",
            "what [happened|have you done|did you do] [so far|until now|on the <patrol>]",
            "<summarize> [the|your] <patrol> [|in one or two sentences]",
            "<summarize> what happened [|so far|in one or two sentences]",
            "which rooms did you <visit>, and what did you <see> [there|]",
        ),
        ("give me a report of the <patrol>", "what is the story of your <patrol> so far"),
    ),
}
INDIRECT: dict[str, Parts] = {
    "scene": Parts(
        ("what you [see|can see] [|<now>]", "what is in front of you [|<now>]"), ("what stands before you",)
    ),
    "room_now": Parts(
        ("<what_room> you are in [|<now>]", "where you are [|<now>]"), ("what your location is [|<now>]",)
    ),
    "room_first": Parts(
        ("<what_room> you <visited> first", "where you started", "<what_room> you were in first"),
        ("where the <patrol> took its start",),
    ),
    "room_before": Parts(
        (
            "<what_room> you were in before the {room}",
            "the room before your last visit to the {room}",
            "where you were before you [last|] <visited> the {room}",
        ),
        ("through which room you got to the {room} last",),
    ),
    "room_before_this": Parts(
        ("<what_room> you were in before [|this one]", "the [previous room|room that you were in before]"),
        ("which room you just left behind",),
    ),
    "seen": Parts(
        (
            "[if|whether] you [ever|] <saw> a {thing} [|anywhere]",
            "[if|whether] there [is|was] a {thing} [|anywhere|in the house]",
        ),
        ("whether a {thing} was in view",),
    ),
    "where": Parts(
        (
            "where the {thing} [is|was|was last|is now]",
            "where you [last|] <saw> [a|the] {thing}",
            "<what_room> the {thing} [is|was] in",
        ),
        ("which room has the {thing}",),
    ),
    "where_first": Parts(
        ("where the {thing} was [at first|in the beginning]", "where you first <saw> [a|the] {thing}"),
        ("where the {thing} stood originally",),
    ),
    "colour": Parts(
        (
            "the <colour> of the {kind} in the {room}",
            "[what|which] <colour> the {kind} in the {room} [has|had|was|is]",
        ),
        ("how the {kind} in the {room} is painted",),
    ),
    "when": Parts(
        ("<how_long_ago> you [last|] <saw> [a|the] {thing}", "<how_long_ago> the {thing} was [last|] in view"),
        ("how old your last view of the {thing} is",),
    ),
    "when_room": Parts(
        ("<how_long_ago> you were [last|] in the {room}", "<how_long_ago> you [last|] <visited> the {room}"),
        ("how old your last visit to the {room} is",),
    ),
    "count": Parts(
        ("<how_often> you <visited> the {room}", "<how_often> you were in the {room}"),
        ("the count of your visits to the {room}",),
    ),
    "person": Parts(
        ("[if|whether] you [ever|] <saw> <person>", "[if|whether] <person> was there"), ("whether you met <person>",)
    ),
    "person_where": Parts(
        ("where <the_person> was", "where you [last|] <saw> <the_person>"), ("which room <the_person> stood in",)
    ),
    "change": Parts(
        ("what <changed> in the {room}", "[if|whether] [something|anything] changed in the {room}"),
        ("how the {room} changed",),
    ),
    "describe": Parts(
        ("in [one|a] sentence where you are and what [you see|is there]",), ("how things look around you",)
    ),
    "patrol": Parts(
        ("what happened [|so far]", "which rooms you were in and what you <saw>"), ("the story of your <patrol>",)
    ),
}
