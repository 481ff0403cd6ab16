/** The page's only style sheet. Colours keep 4.5:1 against what they stand on, in both schemes. */
export const style = `
:root {
  color-scheme: light dark;
  --page: #fbfbf9; --card: #ffffff; --ink: #1d232b; --soft: #55606d; --line: #d7dbe0; --accent: #0b5c8a;
  --old: #8a4b00; --old-back: #fff4e2; --new: #00624f; --new-back: #e4f6f0; --other: #4a4f8c; --other-back: #eeeefa;
  --good: #1b6b2f; --wait: #7a5200; --bad: #b3261e; --bad-back: #fdecea; --wait-back: #fff6e0; --good-back: #e7f5ea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161b; --card: #1a2027; --ink: #e7ebf0; --soft: #a7b2bf; --line: #36404b; --accent: #7cc4f0;
    --old: #ffc27a; --old-back: #38280f; --new: #74dcc0; --new-back: #0d332a; --other: #bfc3ff; --other-back: #26284a;
    --good: #83d997; --wait: #ffcf70; --bad: #ff9d94; --bad-back: #431a17; --wait-back: #3a2d10; --good-back: #143420;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; overflow-wrap: anywhere; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--card); padding: .5rem 1rem; z-index: 1; }
header, main, footer, nav { max-width: 76rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 .75rem; }
h3 { font-size: 1.05rem; margin: 1.25rem 0 .5rem; }
p { margin: .5rem 0; }
.soft { color: var(--soft); }
header nav { padding: 0; }
nav ul { list-style: none; padding: 0; margin: .75rem 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
nav a { display: inline-block; padding: .35rem 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 1rem 0; }
footer { padding-bottom: 2rem; color: var(--soft); font-size: .9rem; }
code { font: .875em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
ul { margin: .25rem 0; padding-left: 1.2rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: .75rem; margin: 1rem 0 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-left: .3rem solid var(--line); border-radius: .5rem; padding: .6rem .9rem; }
.facts dt { color: var(--soft); font-size: .875rem; }
.facts dd { margin: 0; font-weight: 600; }
.facts dd small { display: block; font-weight: 400; font-size: .875rem; }
.facts .is-good { border-left-color: var(--good); } .facts .is-wait { border-left-color: var(--wait); } .facts .is-bad { border-left-color: var(--bad); }
.verdict, .mark { white-space: nowrap; font-weight: 600; }
.holds, .done { color: var(--good); } .pending, .now { color: var(--wait); } .violated { color: var(--bad); } .unknown { color: var(--bad); } .ahead { color: var(--soft); }
.chip { display: inline-block; border: 1.5px solid; border-radius: 1rem; padding: 0 .55rem; margin: .1rem 0; white-space: nowrap; font-size: .9rem; }
.chip.old { color: var(--old); background: var(--old-back); border-style: dashed; }
.chip.new { color: var(--new); background: var(--new-back); }
.chip.other { color: var(--other); background: var(--other-back); border-style: dotted; }
.plus { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; overflow-wrap: break-word; }
time { white-space: nowrap; }
caption { text-align: left; color: var(--soft); padding: 0 0 .4rem; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0; border-top: 1px solid var(--line); min-width: 4.5rem; }
thead th { border-top: 0; color: var(--soft); font-size: .875rem; font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 600; min-width: 9.5rem; } th small { font-weight: 400; }
td > ul { padding-left: 1.1rem; min-width: 14rem; }
td > ul li { margin-bottom: .2rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; min-width: 3rem; }
.timeline { list-style: none; margin: 0; padding: 0; }
.timeline > li { position: relative; padding: 0 0 1.1rem 2rem; border-left: 2px solid var(--line); margin-left: .6rem; }
.timeline > li:last-child { padding-bottom: 0; border-left-color: transparent; }
.timeline .dot { position: absolute; left: -.8rem; top: 0; width: 1.5rem; height: 1.5rem; border-radius: 50%; display: grid; place-items: center; background: var(--card); border: 2px solid; font-size: .8rem; }
.timeline h3 { margin: 0; font-size: 1rem; display: flex; flex-wrap: wrap; gap: 0 .75rem; align-items: baseline; }
.timeline p { margin: .15rem 0; }
details { margin: .4rem 0; border: 1px solid var(--line); border-radius: .5rem; }
summary { cursor: pointer; padding: .55rem .8rem; font-weight: 600; border-radius: .5rem; }
summary small { font-weight: 400; color: var(--soft); font-size: .9rem; }
.unfolded { padding: 0 .8rem .8rem; }
details.inline { border: 0; margin: 0; } details.inline summary { padding: .2rem 0; font-weight: 400; color: var(--accent); }
.bar { display: block; width: 100%; min-width: 9rem; height: 1rem; border-radius: .2rem; }
.bar .old { fill: var(--old); } .bar .both { fill: var(--other); } .bar .new { fill: var(--new); } .bar .rest { fill: var(--line); }
.bar-swatch { display: inline-block; width: 1.75rem; min-width: 0; height: .65rem; }
.bar .hatch { stroke: var(--card); stroke-width: 2; }
.notice { border-radius: .5rem; padding: .6rem .9rem; margin: .5rem 0; border: 1px solid var(--line); border-left-width: .3rem; }
.notice.is-good { border-left-color: var(--good); background: var(--good-back); }
.notice.is-wait { border-left-color: var(--wait); background: var(--wait-back); }
.notice.is-bad { border-left-color: var(--bad); background: var(--bad-back); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .5rem 0; padding: 0; list-style: none; font-size: .9rem; }
@media (max-width: 40rem) { .scroll { margin-inline: -.8rem; padding-inline: .8rem; } .timeline > li { padding-left: 1.5rem; margin-left: .7rem; } section { padding: .8rem; } h1 { font-size: 1.45rem; } }
@media print {
  :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #999; --accent: #000; --old: #6b3a00; --old-back: #fff; --new: #004d3e; --new-back: #fff; --other: #333; --other-back: #fff; --good: #0f4d20; --wait: #5a3d00; --bad: #8a1a14; --bad-back: #fff; --wait-back: #fff; --good-back: #fff; }
  body { font-size: 10pt; }
  nav, .skip { display: none; }
  section { border: 0; padding: 0; }
  .scroll { overflow: visible; }
  tr, li, .notice { break-inside: avoid; } h2, h3, summary { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
`
