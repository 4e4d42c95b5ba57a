// What the page can ask for, as data: every mode with its route, its inputs and its parameters. The form, the request and the
// code to copy are all made from these tables.

/** Pictures a prompt may name, as the server counts them: `<IMAGE_0>` is the first. */
export const tagOf = (index) => `<IMAGE_${index}>`;

const VIDEO_RATIOS = ["16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3"];
const IMAGE_RATIOS = [...VIDEO_RATIOS, "2:1", "1:2", "20:9", "9:20", "19.5:9", "9:19.5"];

const choices = (...values) => values.map(([value, label]) => ({ value, label }));

/**
 * Parameters by name. `field` is the key in the request's body; `omit` is the value that is left to the server, so that a
 * request says only what was chosen.
 */
export const PARAMS = {
  duration: { field: "duration", label: "Length", control: "range", min: 1, max: 15, initial: 6, unit: "s" },
  referenceDuration: { field: "duration", label: "Length", control: "range", min: 1, max: 10, initial: 6, unit: "s" },
  added: { field: "duration", label: "Add", control: "range", min: 1, max: 10, initial: 4, unit: "s" },
  videoRatio: { field: "aspect_ratio", label: "Aspect ratio", control: "ratio", values: VIDEO_RATIOS, initial: "16:9" },
  videoRatioOfInput: { field: "aspect_ratio", label: "Aspect ratio", control: "ratio", values: ["auto", ...VIDEO_RATIOS], initial: "auto", omit: "auto" },
  imageRatio: { field: "aspect_ratio", label: "Aspect ratio", control: "ratio", values: IMAGE_RATIOS, initial: "16:9" },
  imageRatioOfInput: { field: "aspect_ratio", label: "Aspect ratio", control: "ratio", values: ["auto", ...IMAGE_RATIOS], initial: "auto", omit: "auto" },
  videoResolution: { field: "resolution", label: "Resolution", control: "choice", options: choices(["480p", "480p"], ["720p", "720p"], ["1080p", "1080p"]), initial: "720p" },
  referenceResolution: { field: "resolution", label: "Resolution", control: "choice", options: choices(["480p", "480p"], ["720p", "720p"]), initial: "720p" },
  imageResolution: { field: "resolution", label: "Resolution", control: "choice", options: choices(["1k", "1k"], ["2k", "2k"]), initial: "1k" },
  videoVariants: { field: "n", label: "Variants", control: "choice", options: choices([1, "1"], [2, "2"], [3, "3"], [4, "4"]), initial: 1 },
  imageVariants: { field: "n", label: "Variants", control: "range", min: 1, max: 10, initial: 1, unit: "" },
  audio: { field: "generate_audio", label: "Sound", control: "switch", hint: "made together with the pictures", initial: true },
  format: { field: "output_format", label: "File", control: "choice", options: choices(["jpeg", "JPEG"], ["png", "PNG"]), initial: "jpeg", more: true },
  preset: { field: "preset", label: "Preset", control: "choice", options: choices(["quality", "Quality"], ["speed", "Speed"]), initial: "quality", omit: "quality", more: true },
  seed: { field: "seed", label: "Seed", control: "seed", hint: "the same seed makes the same clip; empty draws one", initial: "", omit: "", more: true },
  guidance: { field: "guidance", label: "Guidance", control: "number", min: 0, max: 100, step: 0.1, hint: "how closely to follow the prompt; empty is the model's own", initial: "", omit: "", more: true },
  webhook: { field: "webhook_url", label: "Webhook", control: "url", hint: "told when it is done", initial: "", omit: "", more: true },
  frame: { field: "frame", label: "Go on after frame", control: "frame", initial: "", omit: "" },
};

const SAMPLING = ["seed", "guidance"];

/** Modes in the order shown. `slot` says what must be given besides the prompt; `wire` puts it into the body. */
export const MODES = [
  {
    id: "video-text", kind: "video", label: "Text", icon: "text", path: "/v1/videos/generations", verb: "Generate video",
    hint: "A clip with sound from words alone.", promptRequired: true,
    params: ["duration", "videoRatio", "videoResolution", "videoVariants", "audio", "preset", ...SAMPLING, "webhook"],
  },
  {
    id: "video-image", kind: "video", label: "Image", icon: "image", path: "/v1/videos/generations", verb: "Bring to life",
    hint: "The picture becomes the first frame.", promptRequired: false,
    slot: { accept: "image", min: 1, max: 1, label: "First frame", wire: (media) => ({ image: media[0] }) },
    params: ["duration", "videoRatioOfInput", "videoResolution", "videoVariants", "audio", "preset", ...SAMPLING, "webhook"],
  },
  {
    id: "video-references", kind: "video", label: "References", icon: "images", path: "/v1/videos/generations", verb: "Generate video",
    hint: "Up to seven pictures that the prompt names.", promptRequired: true,
    slot: { accept: "image", min: 1, max: 7, tags: true, label: "Reference pictures", wire: (media) => ({ reference_images: media }) },
    params: ["referenceDuration", "videoRatio", "referenceResolution", "videoVariants", "audio", "preset", ...SAMPLING, "webhook"],
  },
  {
    id: "video-edit", kind: "video", label: "Edit", icon: "edit", path: "/v1/videos/edits", verb: "Edit video",
    hint: "Say what changes. Length, ratio and size stay, up to 720p and 8.7 s.", promptRequired: true,
    slot: { accept: "video", min: 1, max: 1, label: "Clip to change", maxSeconds: 8.7, wire: (media) => ({ video: media[0] }) },
    params: ["videoVariants", "preset", ...SAMPLING, "webhook"],
  },
  {
    id: "video-extend", kind: "video", label: "Extend", icon: "extend", path: "/v1/videos/extensions", verb: "Extend video",
    hint: "Goes on where the clip ends, or after a frame that you choose.", promptRequired: true,
    slot: { accept: "video", min: 1, max: 1, label: "Clip to go on from", minSeconds: 2, maxSeconds: 30, wire: (media) => ({ video: media[0] }) },
    params: ["added", "frame", "videoVariants", "preset", ...SAMPLING, "webhook"],
  },
  {
    id: "image-text", kind: "image", label: "Text", icon: "text", path: "/v1/images/generations", verb: "Generate image",
    hint: "A picture from words alone.", promptRequired: true,
    params: ["imageRatio", "imageResolution", "imageVariants", "preset", "format", ...SAMPLING],
  },
  {
    id: "image-edit", kind: "image", label: "Edit", icon: "edit", path: "/v1/images/edits", verb: "Edit image",
    hint: "Change a picture, or combine up to three.", promptRequired: true,
    slot: {
      accept: "image", min: 1, max: 3, tags: true, label: "Pictures to change",
      wire: (media) => (media.length === 1 ? { image: media[0] } : { images: media }),
    },
    params: ["imageRatioOfInput", "imageResolution", "imageVariants", "preset", "format", ...SAMPLING],
  },
];

export const modeById = (id) => MODES.find((mode) => mode.id === id) ?? MODES[0];

/** Prompts of the built-in model's world, to start from. */
export const EXAMPLES = {
  "video-text": ["a red ball bounces on grass", "a yellow star at night, it spins", "two green cubes in the desert, soft music"],
  "video-image": ["the ball rolls to the right", "it spins slowly"],
  "video-references": ["<IMAGE_0> bounces on grass", "<IMAGE_0> orbits at night"],
  "video-edit": ["the grass becomes a desert", "the ball turns blue"],
  "video-extend": ["the ball bounces", "it moves to the left"],
  "image-text": ["a purple heart at sunset", "a huge white ball in the sky"],
  "image-edit": ["the ball turns blue", "put it before a starry night"],
};
