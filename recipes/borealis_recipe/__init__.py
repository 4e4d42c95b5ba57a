"""The recipe of Borealis' default model: procedural world, codecs, transformer, evaluation, export."""
