"""Pictures with boxes and instructions drawn in, for looking at what was extracted."""

from PIL import Image, ImageDraw

from vlrl.gui.capture.records import Row

_COLOURS = {"label": "#d00000", "icon": "#0050d0", "appearance": "#008000", "region": "#a000a0"}


def draw_rows(image: Image.Image, rows: list[Row], scale: int = 2) -> Image.Image:
    """The image `scale` times larger, boxes numbered, the instructions listed beside it."""
    width, height = image.size[0] * scale, image.size[1] * scale
    out = Image.new("RGB", (width + 420, max(height, 14 * len(rows) + 10)), "white")
    out.paste(image.resize((width, height), Image.Resampling.LANCZOS), (0, 0))
    pen = ImageDraw.Draw(out)
    for number, row in enumerate(rows):
        colour = _COLOURS.get(row.kind, "black")
        box = [side * scale for side in row.bbox]
        pen.rectangle(box, outline=colour, width=2)
        pen.text((box[0] + 2 + 18 * (number % 3), box[1] + 1), str(number), fill=colour)
        line = f"{number} [{row.kind[:5]}/{row.element_type}/{row.role}] {row.instruction}"
        pen.text((width + 6, 4 + 14 * number), line, fill=colour)
    return out
