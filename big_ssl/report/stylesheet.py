"""The style sheet of a page: light, one column on a phone, wide tables scroll in their boxes."""

STYLE = """
:root { color-scheme: light; --text: #1d1f23; --soft: #565d68; --line: #d9dde3;
  --page: #f5f6f8; --card: #ffffff; --code: #f1f3f6; --link: #005a96; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
main { max-width: 71rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1, h2, a, p, caption, figcaption, dt, dd { overflow-wrap: anywhere; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .8rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 .6rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin-bottom: 1.5rem; }
a { color: var(--link); padding: .15rem 0; }
section, dl { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.2rem 1.4rem; margin: 0 0 1.2rem; }
dl { display: grid; gap: .9rem 2rem; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr));
  border-left: 4px solid var(--link); }
dt { color: var(--soft); font-size: .9rem; line-height: 1.35; }
dd { margin: 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums; }
p { max-width: 46rem; margin: 0 0 .8rem; white-space: pre-line; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums;
  min-width: min(100%, 22rem); }
caption, figcaption { text-align: left; color: var(--soft); font-size: .9rem;
  padding-bottom: .4rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
pre { background: var(--code); border-radius: 6px; padding: .7rem .9rem; overflow-x: auto;
  font: .85rem/1.6 ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
.figures { display: flex; flex-wrap: wrap; gap: 1.4rem .8rem; align-items: flex-start; }
figure { margin: 0; width: var(--width); max-width: 100%; overflow-x: auto; }
img { display: block; width: var(--width); max-width: max(100%, .62 * var(--width));
  height: auto; background: #fff; }
.file { display: block; font-size: .8rem; }
@media (max-width: 40rem) { main { padding: 1rem .6rem 3rem; } h1 { font-size: 1.45rem; }
  section, dl { padding: .9rem .8rem; } td:not(.number) { min-width: 6rem; } }
@page { margin: 1.5cm; }
@media print { body { background: none; font-size: 10.5pt; } nav { display: none; }
  main { max-width: none; padding: 0; } section, dl { border: 0; padding: 0 0 .6rem; }
  figure, tr, h2 { break-inside: avoid; } h2 { break-after: avoid; }
  .scroll, figure { overflow: visible; } th { white-space: normal; }
  img { max-width: 100%; } pre { white-space: pre-wrap; overflow-wrap: anywhere; } }
"""
