"""Draws questions that have no answer in the demo's world, from a grammar with a held-out part."""

from __future__ import annotations

import numpy as np

from .broad_wordings import FURTHER, OUT_OF_WORLD, VOICES_OUT_OF_WORLD, broad_templates, broad_words
from .grammar import WITH_BROAD_SYNONYMS, WITH_VOICES, Part, broad_part, draw, expand
from .grammar_forms import Parts
from .scoring import CANNOT_TELL, Question
from .world import COLOURS, KINDS, ROOMS

OBJECTS = Parts(
    (
        "dog",
        "cat",
        "car",
        "table",
        "bottle",
        "cup",
        "phone",
        "book",
        "knife",
        "key",
        "hat",
        "shoe",
        "bicycle",
        "spoon",
        "window",
        "clock",
        "mirror",
        "pillow",
        "towel",
        "bag",
        "laptop",
        "guitar",
        "fridge",
        "oven",
        "bird",
        "fish",
        "tree",
        "flower",
        "pencil",
        "coat",
        "umbrella",
        "sofa",
        "carpet",
        "drone",
        "radio",
        "candle",
    ),
    (
        "horse",
        "wallet",
        "hammer",
        "teapot",
        "tablet",
        "jacket",
        "ladder",
        "violin",
        "camera",
        "basket",
        "curtain",
        "scooter",
    ),
)
PLACES = Parts(
    ("garage", "garden", "cellar", "bathroom", "attic", "street", "shop", "school", "balcony", "laundry", "hospital"),
    ("basement", "vineyard", "library", "church", "forest", "monastery"),
)
TINTS = Parts(("orange", "pink", "black", "white", "brown", "grey", "golden"), ("turquoise", "violet", "silver"))
MADE_UP = Parts(("blorp", "zint", "quaggle", "frimp", "dorvel", "snib"), ("wexter", "plonk", "mirv"))
TEMPLATES = Parts(
    (
        "[did you ever see|have you seen|was there|is there] a {object}",
        "where [is|was|did you last see] [the|my|a] {object}",
        "[when|how long ago] did you last see the {object}",
        "[did you ever see|where is|when did you see] the {tint} {kind}",
        "[how often|when|how many times] [were you|have you been] in the {place}",
        "[what|which] colour [is|was] the {object} in the {room}",
        "[what|which] colour [is|was] the {kind} in the {place}",
        "how [big|heavy|old|warm|expensive|tall] is the {colour} {kind}",
        "who [owns|moved|bought|broke|painted] the {colour} {kind}",
        "what is [under|behind|inside|above|on top of] the {colour} {kind}",
        "is the {colour} {kind} [left of|right of|next to|bigger than|behind] the {other} {kind}",
        "how many [{kind}s|{object}s|windows|doors|people] are [in the {room}|there|in the house]",
        "what is the {object} made of",
        "why [is|did you see] the {colour} {kind} in the {room}",
        "what will [happen|you see|change] [next|tomorrow|later]",
        "[who|what] are you",
        "how are you [|today|doing]",
        "[hello|hi|good morning|thanks|thank you|good bye|you are nice]",
        "what is your [name|favourite colour|job]",
        "[do you like|can you play|tell me about] [music|football|cooking|the weather|movies|history]",
        "what is [the capital of france|two plus two|the weather like|the time|the news|the meaning of life]",
        "[who is|how old is|where lives] [the president|your boss|einstein|the queen]",
        "[sing a song|tell me a joke|write a poem|count to ten|turn left|drive to the {room}|stop|bring me the {kind}]",
        "what is the [battery level|temperature|price|address|phone number]",
        "[did you ever see|where is|where did you last see|when did you last see] [a|the|]",
        "what colour was the in the [{room}|]",
        "[where|when|what|how|why|did you|have you|the|is|room|{colour}|ok|yes|no]",
        "[did you see|where is|what is] [a|the] {made_up}",
        "[did you see|where is] the {colour} {made_up}",
    ),
    (
        "[is|was] the {object} still [there|on|open]",
        "[did|could] you hear [a|the] {object}",
        "what does the {object} look like",
        "[who was|what happened] in the {place}",
        "does the {colour} {kind} belong to [you|me|anna]",
        "how far is the {kind} from the {room} door",
        "what [makes you happy|can you do|do you think of me|is your age]",
        "[what is love|how does a motor work|who won the cup|what year is it|how do i bake bread]",
        "[translate this|play some music|clean the {room}|call my mother|open the door]",
        "[asdf|hmm|lorem ipsum|la la la|blah blah]",
        "what is the {made_up} of the {kind}",
    ),
)


def out_of_world(rng: np.random.Generator, part: Part = Part.TRAIN) -> Question:
    """A question without an answer in the demo's world.

    TEMPLATES and SYNONYMS are the same held-out part. FIT has templates of its own, but the words of VOICES.
    """
    templates, objects, places, tints, made_up = _options(part)
    colour, other = rng.permutation(list(COLOURS))[:2].tolist()
    text = expand(draw(templates, rng), rng).format(
        object=draw(objects, rng),
        place=draw(places, rng),
        tint=draw(tints, rng),
        made_up=draw(made_up, rng),
        kind=KINDS[int(rng.integers(len(KINDS)))],
        room=ROOMS[int(rng.integers(len(ROOMS)))],
        colour=colour,
        other=other,
        person=draw(broad_words(VOICES_OUT_OF_WORLD, "persons"), rng) if part in WITH_VOICES else "",
    )
    text = " ".join(text.split())
    return Question("out_of_world", text[:1].upper() + text[1:] + "?", CANNOT_TELL, None, False)


def _options(part: Part) -> tuple[tuple[str, ...], ...]:
    """Templates, objects, places, tints and invented words of a part of the grammar."""
    if part is Part.BROAD or part in WITH_BROAD_SYNONYMS:
        further = () if part is Part.BROAD else (FURTHER, VOICES_OUT_OF_WORLD) if part in WITH_VOICES else (FURTHER,)
        groups = (OUT_OF_WORLD, *further)
        templates = (broad_part(broad_templates(group, "templates"), part) for group in groups)
        names = ("objects", "places", "tints", "made up")
        words = (sum((broad_words(group, name) for group in groups), ()) for name in names)
        return (sum(templates, ()), *words)
    every = (TEMPLATES, OBJECTS, PLACES, TINTS, MADE_UP)
    return tuple(parts.train if part is Part.TRAIN else parts.held_out for parts in every)
