/** The page's looks: one column on a phone, dark or light as the browser asks, contrast of at least 4.5:1 in both. */
export const STYLE = `
:root { color-scheme: light dark; --bg: #f6f7f9; --card: #ffffff; --ink: #1b1f24; --muted: #57606a; --line: #d5dae0;
  --accent: #0b5cad; --on-accent: #ffffff; --bad: #a4161a; --good: #1a6b32; --warn: #7a4d00; --plain: #57606a;
  --curve-0: #0b5cad; --curve-1: #b35900; --curve-2: #1a6b32; --curve-3: #a4161a; --curve-4: #6639a6; --curve-5: #57606a }
@media (prefers-color-scheme: dark) { :root { --bg: #101418; --card: #191f25; --ink: #e6eaee; --muted: #a3adb8;
  --line: #353e48; --accent: #7ab8ff; --on-accent: #0b1a2b; --bad: #ff9a94; --good: #7fd99a; --warn: #f0c265; --plain: #a3adb8;
  --curve-0: #7ab8ff; --curve-1: #f0c265; --curve-2: #7fd99a; --curve-3: #ff9a94; --curve-4: #c9a6ff; --curve-5: #a3adb8 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif }
a { color: var(--accent) }
.skip { position: absolute; left: -999px }
.skip:focus { position: static; display: block; padding: .5rem 1rem }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
header { background: var(--card); border-bottom: 1px solid var(--line); padding: .5rem 1rem; display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: center }
header .name { font-weight: 650 }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem; list-style: none; margin: 0; padding: 0 }
nav a { display: block; padding: .35rem .7rem; border-radius: 6px; text-decoration: none; color: var(--ink) }
nav a[aria-current] { background: var(--accent); color: var(--on-accent) }
.who { margin-left: auto; display: flex; gap: .8rem; align-items: center }
main { max-width: 1180px; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.4rem; margin: .3rem 0 1rem; overflow-wrap: anywhere }
h2 { font-size: 1.05rem; margin: 0 0 .6rem } h3 { font-size: 1rem; margin: 1rem 0 .4rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; margin: 0 0 1rem; min-width: 0 }
.card > dl, .card > details, .card > .scroll { margin-bottom: .6rem }
.card > :first-child { margin-top: 0 } .card > :last-child { margin-bottom: 0 }
.narrow { max-width: 26rem } .narrow input { width: 100% }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 1rem; align-items: start; margin-bottom: 1rem }
.halves { grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)) }
.curves { grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)) }
.grid > .card, .grid > div > .card:last-child { margin: 0 } .grid > div { min-width: 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
table.compact { width: auto; min-width: min(100%, 30rem) }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
th:first-child, td:first-child { padding-left: 0 } th:last-child, td:last-child { padding-right: 0 }
tbody:last-child tr:last-child > *, tfoot tr:last-child > * { border-bottom: 0 }
th { color: var(--muted); font-weight: 600; white-space: nowrap } th[scope=row] { font-weight: 400; color: var(--ink) }
tfoot > tr > * { font-weight: 650 }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
td.number small { display: block } th.number { white-space: normal; word-break: keep-all }
td.long { overflow-wrap: anywhere; min-width: 9rem }
small { font-size: .85rem; font-weight: 400 }
.money, .whole { white-space: nowrap }
dl { display: grid; grid-template-columns: minmax(6.5rem, max-content) 1fr; gap: .25rem 1rem; margin: 0 }
dt { color: var(--muted) } dd { margin: 0; overflow-wrap: anywhere }
.muted { color: var(--muted) } .bad { color: var(--bad) } .good { color: var(--good) } .warn { color: var(--warn) }
.tag { display: inline-block; border: 1px solid currentColor; border-radius: 5px; padding: 0 .4rem; font-size: .85rem; font-weight: 600; line-height: 1.35rem; white-space: nowrap }
.tag.plain { color: var(--plain); border-color: var(--line) }
.calm { color: var(--muted) }
.alarm { border-left: 5px solid var(--muted) } .alarm.bad { border-left-color: var(--bad) } .alarm.warn { border-left-color: var(--warn) } .alarm.good { border-left-color: var(--good) }
.alarm, .alarm a { overflow-wrap: anywhere } section.alarm h2, p.alarm.good { color: inherit }
ul.alarms { margin: 0; padding: 0; list-style: none } ul.alarms li { padding: .15rem 0 } ul.alarms a { color: inherit }
section.alarm { color: var(--ink) }
.big { margin: 0 0 .2rem; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums } .big + .muted { margin: 0 0 .8rem } .big + dl { margin-top: .6rem }
.big small { font-size: .9rem }
.counted { font-size: 1.2rem; font-variant-numeric: tabular-nums }
form.row { display: flex; flex-wrap: wrap; gap: .6rem; align-items: end }
label { display: block; color: var(--muted); font-size: .9rem }
input, select, textarea, button { font: inherit; color: inherit; min-height: 2.4rem }
input, select, textarea { background: var(--bg); border: 1px solid var(--muted); border-radius: 6px; padding: .35rem .6rem; max-width: 100% }
.wide { flex: 1 1 18rem } .wide input, textarea { width: 100% }
.check { display: flex; align-items: center; gap: .4rem; min-height: 2.4rem } .check input { min-height: 1.2rem; width: 1.2rem; height: 1.2rem }
button, .button { display: inline-flex; align-items: center; background: var(--accent); color: var(--on-accent); border: 1px solid var(--accent); border-radius: 6px; padding: .35rem 1rem; cursor: pointer; text-decoration: none; min-height: 2.4rem }
button.quiet, .button.quiet { background: transparent; color: var(--accent) }
button.plain { background: none; border: 0; color: var(--accent); padding: 0 .2rem; text-decoration: underline }
.actions { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center }
.story { list-style: none; margin: 0; padding: 0 0 0 1rem; border-left: 2px solid var(--line) }
.story li { position: relative; padding: 0 0 1rem } .story li:last-child { padding: 0 }
.story li::before { content: ""; position: absolute; left: calc(-1rem - 6px); top: .45rem; width: 10px; height: 10px; border-radius: 50%; background: var(--muted) }
.story li.repaired::before { background: var(--good) } .story li.exception::before { background: var(--bad) } .story li.synced::before { background: var(--accent) }
.story p { margin: .1rem 0; overflow-wrap: anywhere }
pre { background: var(--bg); border: 1px solid var(--line); border-radius: 6px; padding: .6rem; overflow: auto; max-height: 24rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem }
summary { cursor: pointer; color: var(--accent); overflow-wrap: anywhere }
progress { width: 100%; height: 1.2rem; accent-color: var(--accent); margin: .4rem 0 .8rem }
figure { margin: 0; min-width: 0 } figcaption { font-weight: 600; margin-bottom: .4rem }
.uplot, .u-legend { color: var(--ink); font: inherit } .u-legend { font-size: .8rem; text-align: left } .u-wrap { max-width: 100% }
.u-legend th, .u-legend td { border: 0; padding: .1rem .3rem }
.plot { min-height: 225px; overflow: hidden }
footer { color: var(--muted); text-align: center; padding: 1rem; font-size: .85rem }
@media (max-width: 600px) { main { padding: .6rem } .card { padding: .8rem } header { padding: .5rem .6rem } nav { order: 1; width: 100% } nav ul { gap: 0 } nav a { padding: .35rem .38rem; font-size: .95rem } .who { gap: .5rem } dl { grid-template-columns: minmax(5.5rem, max-content) 1fr; gap: .25rem .7rem } th, td { padding: .3rem .4rem } }
`
