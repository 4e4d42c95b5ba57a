"""The words of each world: for every value of the vocabulary the phrases that say it, in the order of its ids."""

from __future__ import annotations

from dataclasses import dataclass

from .vocabulary import COLORS, NARROW, RICH, World

Phrases = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Lexicon:
    """Phrases by value; an empty phrase leaves the value unsaid."""

    backgrounds: Phrases
    prepositions: Phrases  # before a background's phrase
    shapes: Phrases
    colors: Phrases
    motions: Phrases
    speeds: Phrases
    sizes: Phrases
    music: Phrases
    openings: tuple[str, ...]
    still_openings: tuple[str, ...]
    cameras: Phrases = (("",),)
    weather: Phrases = (("",),)


BACKGROUNDS = (
    ("a blue sky", "the sky", "a cloudy blue sky", "the daylight sky", "a cloudy sky", "a clear sky"),
    ("a night sky", "the night", "a starry night", "a dark night with a moon", "the moonlight", "the starry night sky"),
    ("a sunset", "the sunset", "an orange sunset", "dusk", "the evening sun", "a glowing sunset"),
    ("a green meadow", "a meadow", "grass", "a grassy field", "green hills", "the grass"),
    ("a desert", "the desert", "sand dunes", "a sandy desert", "the sand", "the dunes"),
    ("a gray studio", "a studio", "a plain gray background", "a gray room", "a grey studio", "the studio"),
)
PREPOSITIONS = (
    ("in", "in front of", "against"),
    ("in", "at", "under"),
    ("at", "in front of", "in"),
    ("on", "over", "in"),
    ("in", "over", "on"),
    ("in", "against", "in front of"),
)
MOTIONS = (
    ("standing still", "at rest", "staying still", "floating motionless", "that does not move", "", ""),
    ("bouncing", "bouncing up and down", "that bounces", "hopping", "jumping up and down", "bouncing on the ground", "bounces"),
    ("flying to the right", "moving right", "flying left to right", "gliding to the right", "that moves to the right", "moves to the right"),
    ("flying to the left", "moving left", "flying right to left", "gliding to the left", "that moves to the left", "moves to the left"),
    ("rising", "flying up", "moving up", "floating upward", "going up", "rises"),
    ("falling", "falling down", "moving down", "dropping", "sinking down", "falls"),
    ("orbiting", "moving in a circle", "circling around", "flying in circles", "circles around"),
    ("spinning", "rotating", "spinning around", "turning in place", "spins"),
    ("pulsing", "growing and shrinking", "that pulses", "breathing in size", "pulses"),
    ("shaking", "vibrating", "trembling", "shivering", "shakes"),
)  # fmt: skip
NARROW_WORDS = Lexicon(
    backgrounds=BACKGROUNDS,
    prepositions=PREPOSITIONS,
    shapes=(
        ("ball", "ball", "ball", "sphere", "circle"),
        ("box", "cube", "square", "box", "block"),
        ("triangle", "triangle", "pyramid"),
        ("star", "star", "star-shaped thing"),
        ("heart", "heart", "heart shape"),
        ("ring", "ring", "hoop", "donut"),
    ),
    colors=tuple((c, c, c, s) for c, s in zip(COLORS, ("crimson", "orange", "golden", "emerald", "azure", "violet", "rosy", "snow-white"))),
    motions=MOTIONS,
    speeds=(("slowly", "slowly", "gently"), ("",), ("quickly", "fast", "rapidly")),
    sizes=(("small", "tiny", "little"), ("", "", "medium"), ("large", "big", "huge")),
    music=(
        ("",),
        ("happy music", "cheerful music", "a happy melody", "a merry tune"),
        ("calm music", "a calm chord", "peaceful music", "soft music"),
        ("the sound of rain", "rain sounds", "rain", "rainfall"),
        ("wind", "wind noise", "a soft wind", "the sound of wind"),
    ),
    openings=("", "", "", "", "", "a video of ", "a clip of ", "an animation of ", "please show ", "generate ", "make a video of ", "a scene with "),
    still_openings=("", "", "", "", "a picture of ", "an image of ", "draw ", "show "),
)
RICH_WORDS = Lexicon(
    backgrounds=BACKGROUNDS,
    prepositions=PREPOSITIONS,
    shapes=(
        ("ball", "ball", "sphere", "circle", "orb", "globe"),
        ("box", "cube", "square", "block", "crate"),
        ("triangle", "triangle", "pyramid", "wedge", "triangular shape", "three-sided shape"),
        ("star", "star", "star-shaped thing", "star shape", "five-pointed star", "starlet"),
        ("heart", "heart", "heart shape", "love heart", "valentine", "heart-shaped thing"),
        ("ring", "ring", "hoop", "donut", "loop", "ring-shaped thing"),
        ("diamond", "diamond", "rhombus", "lozenge", "diamond shape", "rhomb"),
        ("cross", "cross", "plus sign", "plus", "cross shape", "cross-shaped thing"),
        ("cat", "cat", "kitten", "kitty", "cat face", "pussycat"),
        ("dog", "dog", "puppy", "doggy", "dog face", "hound"),
        ("fish", "fish", "little fish", "goldfish", "fishy", "swimming fish"),
        ("frog", "frog", "toad", "green frog", "frog face", "froggy"),
        ("butterfly", "butterfly", "monarch", "monarch butterfly", "moth", "winged insect"),
        ("turtle", "turtle", "tortoise", "sea turtle", "green turtle", "shelled turtle"),
        ("bee", "bee", "honeybee", "bumblebee", "wasp", "striped bee"),
        ("tree", "tree", "oak", "leafy tree", "green tree", "oak tree"),
        ("flower", "flower", "sunflower", "blossom", "bloom", "yellow flower"),
        ("mushroom", "mushroom", "toadstool", "fungus", "red mushroom", "spotted mushroom"),
        ("cactus", "cactus", "cactus plant", "green cactus", "saguaro", "prickly cactus"),
        ("apple", "apple", "red apple", "ripe apple", "fruit apple", "shiny apple"),
        ("banana", "banana", "peeled banana", "ripe banana", "yellow banana", "banana fruit"),
        ("strawberry", "strawberry", "red berry", "berry", "ripe strawberry", "sweet strawberry"),
        ("pizza", "pizza", "slice of pizza", "pizza slice", "piece of pizza", "pepperoni pizza"),
        ("car", "car", "red car", "automobile", "auto", "motorcar"),
        ("rocket", "rocket", "spaceship", "rocket ship", "spacecraft", "space rocket"),
        ("boat", "boat", "sailboat", "sailing boat", "yacht", "sailing ship"),
        ("house", "house", "home", "cottage", "little house", "building"),
        ("balloon", "balloon", "red balloon", "party balloon", "toy balloon", "air balloon"),
        ("crown", "crown", "golden crown", "royal crown", "king's crown", "tiara"),
        ("robot", "robot", "robot head", "android", "robot face", "machine man"),
        ("ghost", "ghost", "spook", "phantom", "spirit", "white ghost"),
        ("umbrella", "umbrella", "parasol", "blue umbrella", "rain umbrella", "open umbrella"),
    ),
    colors=(
        ("red", "red", "crimson", "scarlet", "ruby", "cherry-red"),
        ("orange", "orange", "tangerine", "amber", "pumpkin-colored", "apricot"),
        ("yellow", "yellow", "golden", "lemon", "canary", "sunny yellow"),
        ("green", "green", "emerald", "leaf-green", "grass-green", "jade"),
        ("blue", "blue", "azure", "navy", "cobalt", "sapphire"),
        ("purple", "purple", "violet", "lilac", "plum", "lavender"),
        ("pink", "pink", "rosy", "rose", "magenta", "fuchsia"),
        ("white", "white", "snow-white", "ivory", "milky", "chalk-white"),
        ("black", "black", "jet-black", "ebony", "coal-black", "pitch-black"),
        ("",),
    ),
    motions=MOTIONS,
    speeds=(
        ("slowly", "slowly", "gently", "lazily", "unhurriedly", "at a slow pace"),
        ("",),
        ("quickly", "fast", "rapidly", "swiftly", "at high speed"),
    ),
    sizes=(
        ("small", "tiny", "little", "mini", "miniature"),
        ("", "", "medium", "medium-sized", "mid-sized", "average-sized", "normal-sized"),
        ("large", "big", "huge", "giant", "enormous"),
    ),
    music=(
        ("",),
        ("happy music", "cheerful music", "a happy melody", "a merry tune", "joyful music"),
        ("calm music", "a calm chord", "peaceful music", "soft music", "relaxing music"),
        ("the sound of rain", "rain sounds", "rain noise", "rainfall sounds", "pattering sounds"),
        ("wind noise", "the sound of wind", "wind sounds", "a howling sound", "rushing air"),
        ("sad music", "a sad melody", "melancholy music", "a mournful tune", "gloomy music"),
        ("a voice that names it", "its name spoken", "a voice saying what it is", "spoken words", "a speaking voice"),
    ),
    openings=NARROW_WORDS.openings,
    still_openings=NARROW_WORDS.still_openings,
    cameras=(
        ("", "", "", "static camera", "the camera does not move", "fixed camera", "locked-off shot", "steady shot"),
        ("the camera pans right", "camera pans to the right", "pan right", "panning to the right", "the camera moves to the right"),
        ("the camera pans left", "camera pans to the left", "pan left", "panning to the left", "the camera moves to the left"),
        ("the camera zooms in", "zoom in", "zooming in", "a slow zoom in", "the camera moves closer"),
        ("the camera zooms out", "zoom out", "zooming out", "a slow zoom out", "the camera pulls back"),
        ("the camera orbits", "orbiting camera", "the camera circles the scene", "camera orbit", "an orbit shot"),
    ),
    weather=(
        ("", "", "", "", "dry weather", "in fair weather", "no weather", "without any weather", "in good weather"),
        ("in the rain", "while it rains", "on a rainy day", "rainy weather", "in pouring rain", "it is raining"),
        ("in the snow", "while it snows", "on a snowy day", "snowy weather", "with falling snow", "it is snowing"),
        ("in the fog", "in thick fog", "on a foggy day", "foggy weather", "in the mist", "it is foggy"),
        ("in strong wind", "on a windy day", "windy weather", "in a storm", "in a gale", "it is windy"),
    ),
)
LEXICA = {NARROW.name: NARROW_WORDS, RICH.name: RICH_WORDS}

# How two objects stand to each other; `A` and `B` are their noun phrases.
RELATION_WORDS = {
    "left of": ("A to the left of B", "A left of B", "A on the left side of B", "A on the left of B", "on the left A, on the right B"),
    "right of": ("A to the right of B", "A right of B", "A on the right side of B", "A on the right of B", "on the right A, on the left B"),
    "above": ("A above B", "A over B", "A higher than B", "A up above B", "above B, A"),
    "below": ("A below B", "A beneath B", "A lower than B", "A underneath B", "below B, A"),
    "in front of": ("A in front of B", "A before B", "A partly hiding B", "A covering part of B", "A closer than B"),
    "behind": ("B behind A", "B partly hidden by A", "B half hidden by A", "B at the back of A", "B farther away than A"),
    "bigger than": ("A bigger than B", "A larger than B", "A that is bigger than B", "A, larger than B", "A of greater size than B"),
    "smaller than": ("A smaller than B", "A that is smaller than B", "A littler than B", "A, smaller than B", "A of lesser size than B"),
}


def lexicon(world: World) -> Lexicon:
    return LEXICA[world.name]
