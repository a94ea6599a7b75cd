"""How the page looks: on a screen, in the dark, on a phone and on paper."""

__all__ = ["STYLE"]

STYLE = """
:root {
  --page: #fbfbfa; --text: #1c2126; --quiet: #5a636d; --line: #d9dde1; --grid: #e6e9ec;
  --accent: #2458b8; --marked: #9a5200; --bad: #b3190f; --loss: #8f4a00; --gain: #17693a; --warn: #fff3d6;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #15181b; --text: #e4e7ea; --quiet: #a3abb3; --line: #3a4148; --grid: #2a3036;
    --accent: #7db0ff; --marked: #ffb45c; --bad: #ff8f85; --loss: #ffb868; --gain: #7fd89c; --warn: #3a2f14;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word;
}
h1 { margin: .5rem 0; font-size: 1.5rem; line-height: 1.25; }
h2 { margin: 2.5rem 0 .75rem; padding-top: .5rem; border-top: 1px solid var(--line); font-size: 1.2rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.verdict { font-size: 1.15rem; max-width: 60rem; }
.stamp {
  padding: .05rem .5rem; border: 3px solid; border-radius: .3rem; color: var(--bad); letter-spacing: .08em;
  white-space: nowrap;
}
.warning { margin: .5rem 0; padding: .4rem .75rem; border-left: 4px solid var(--loss); background: var(--warn); }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem); padding-bottom: .4rem; }
th, td { padding: .3rem .55rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th[scope=row] { position: sticky; left: 0; background: var(--page); text-align: left; font-weight: 500; }
thead th { vertical-align: bottom; white-space: normal; min-width: 3.5rem; font-weight: 600; }
.words { text-align: left; }
.gain { color: var(--gain); } .loss { color: var(--loss); } .same, .quiet { color: var(--quiet); }
.bad { color: var(--bad); font-weight: 700; }
.change { display: inline-block; min-width: 3.4em; }
.swatch {
  display: inline-block; width: .8em; height: .8em; margin-right: .45em; border: 1px solid var(--quiet);
  border-radius: 2px; print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .5rem 0; padding: 0; list-style: none; }
.icon { width: 1.1em; height: 1.1em; vertical-align: -.15em; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(max(9.5rem, 23.5%), 1fr)); gap: .75rem; }
figure { margin: 0; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { padding: .2rem 0; color: var(--quiet); font-size: .875rem; line-height: 1.35; }
dl { margin: .75rem 0; max-width: 60rem; }
dl div { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; gap: 1rem; padding: .2rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; }
@media (max-width: 40rem) { dl div { display: block; } }
dd, li { overflow-wrap: anywhere; }
code { font: .85rem ui-monospace, monospace; }
details { margin: .4rem 0; }
summary { cursor: pointer; padding: .2rem 0; }
details li { margin: .5rem 0; }
.chart { display: block; max-width: 48rem; overflow: visible; font-size: 12px; }
.chart text { fill: var(--text); stroke: var(--page); stroke-width: 3px; paint-order: stroke; }
.bar { fill: var(--accent); } .marked { fill: var(--marked); }
.fill { fill: var(--accent); } .open, .ring, .cross { fill: var(--page); stroke: var(--accent); stroke-width: 2; }
.cross { stroke: var(--bad); }
line { stroke: var(--grid); } line.front { stroke: var(--accent); stroke-width: 1.5; }
line.level { stroke: var(--quiet); stroke-dasharray: 5 4; }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; background: none; }
  nav, details.screen { display: none; }
  .wide { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .15rem .35rem; }
  th[scope=row] { position: static; background: none; }
  tr, .warning, .chart { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  rect, line, circle, path, .warning { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
