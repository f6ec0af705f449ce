"""The look of the report: one style sheet, no script, no font from elsewhere."""

STYLE = """
:root { color-scheme: light dark; --ink:#1c2128; --soft:#59636e; --line:#d8dee4; --card:#f6f8fa;
  --page:#ffffff; --good:#12a150; --bad:#d1242f; --accent:#1f6feb; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6edf3; --soft:#9198a1; --line:#30363d;
  --card:#161b22; --page:#0d1117; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; margin: 0;
  color: var(--ink); background: var(--page); }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 80px; }
h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 44px 0 6px; }
h3 { font-size: 15px; margin: 22px 0 6px; } p.note { color: var(--soft); margin: 2px 0 12px; }
.tiles { display: grid; gap: 12px; margin: 18px 0;
  grid-template-columns: repeat(auto-fit, minmax(min(290px, 100%), 1fr)); }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 16px; }
.tile b { display: block; font-size: 24px; } .tile span { color: var(--soft); font-size: 13px; }
.tile .up { color: var(--good); } .tile .down { color: var(--bad); }
.soft { color: var(--soft); } .whole { white-space: nowrap; }
table { border-collapse: collapse; width: 100%; margin: 8px 0 4px; font-size: 14px; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
.charts { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(400px, 100%), 1fr)); }
p.note.below { margin: 10px 0 0; font-size: 13px; }
figure { margin: 0; } .chart { border: 1px solid var(--line); border-radius: 8px; padding: 10px; }
figcaption { font-weight: 600; font-size: 14px; } svg { width: 100%; height: auto; }
svg text { font-size: 11px; fill: var(--soft); } svg .grid { stroke: var(--line); }
.legend { margin: 0; font-size: 12px; color: var(--soft); } .legend span { margin-right: 12px; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px;
  margin-right: 4px; }
.pairs { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr)); }
.pair, .group { border: 1px solid var(--line); border-radius: 8px; padding: 10px; }
.pair .shots { display: flex; gap: 8px; align-items: flex-start; } .pair .shots figure { flex: 1; }
.pairs.large { grid-template-columns: 1fr; } .pair.wide .shots { flex-direction: column; }
.pair.wide figure, .pair.wide img { width: 100%; } .pair.wide img { image-rendering: pixelated; }
.group.wide { flex-direction: column; } .group.wide .shot { flex: none; }
.pair img, .group img { max-width: 100%; border-radius: 4px; border: 1px solid var(--line); }
.pair figcaption { font-weight: 400; font-size: 12px; color: var(--soft); }
.gallery { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); }
.gallery.large { grid-template-columns: repeat(auto-fill, minmax(min(640px, 100%), 1fr)); }
.card, .strip { border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }
.card .shots { display: flex; gap: 8px; align-items: flex-start; }
.card p, .card p.note { margin: 6px 0 0; } .card p.note { font-size: 12px; }
.card figcaption { font-weight: 400; font-size: 12px; color: var(--soft); }
.card img, .strip img { border-radius: 4px; vertical-align: top; } .card img { width: 100%; }
.pixels { image-rendering: pixelated; }
.strip { margin: 12px 0; } .wide { overflow-x: auto; }
.strip table { width: auto; font-size: 12px; }
.strip th, .strip td { text-align: center; padding: 3px 6px; vertical-align: bottom; }
.strip td:first-child, .strip th:first-child { text-align: left; padding-left: 0; }
.strip th { font-weight: 400; } .strip tr:first-child th { border: 0; padding-top: 8px; }
.group { display: flex; gap: 16px; margin: 12px 0; } .group .shot { flex: 0 0 38%; }
.group .answers { flex: 1; overflow-x: auto; }
code, pre { font: 12px/1.45 ui-monospace, "Liberation Mono", monospace; }
pre { background: var(--card); padding: 12px; border-radius: 8px; overflow-x: auto; }
@media (max-width: 640px) { main { padding: 20px 14px 60px; } .group { flex-direction: column; }
  .group .answers { max-width: 100%; } }
.key i { display: inline-block; width: 12px; height: 12px; margin: 0 4px 0 12px;
  vertical-align: -1px; border: 2px solid; }
"""
