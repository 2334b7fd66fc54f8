/** The pages, in Eta's language; `it` is the view. They are code, so that a build has them with it. */
const LAYOUT = `<!doctype html>
<html lang="<%= it.language === 'zh' ? 'zh-CN' : 'en' %>">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="htmx-config" content='{"includeIndicatorCSS":false,"history":false}'>
<title><%= it.heading %> · <%= it.t.title %></title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="<%= it.assets %>/uplot.css">
<link rel="stylesheet" href="<%= it.assets %>/console.css">
<script src="<%= it.assets %>/htmx.js" defer></script>
<script src="<%= it.assets %>/htmx-sse.js" defer></script>
<% if (it.curves) { %><script src="<%= it.assets %>/uplot.js" defer></script><script src="<%= it.assets %>/console.js" defer></script><% } %>
</head>
<body>
<a class="skip" href="#content"><%= it.t.skip %></a>
<header>
<span class="name"><%= it.t.title %></span>
<% if (it.operator !== null) { %>
<nav aria-label="<%= it.t.sections %>"><ul>
<% for (const [path, name] of [['/', it.t.now], ['/find', it.t.find], ['/exceptions', it.t.exceptions], ['/notices', it.t.notices], ['/batches', it.t.batches]]) { %>
<li><a href="/console<%= path === '/' ? '' : path %>"<% if (it.section === path) { %> aria-current="page"<% } %>><%= name %></a></li>
<% } %>
</ul></nav>
<% } %>
<div class="who">
<a href="/console/language?to=<%= it.language === 'zh' ? 'en' : 'zh' %>&amp;back=<%= encodeURIComponent(it.here) %>" lang="<%= it.language === 'zh' ? 'en' : 'zh-CN' %>"><%= it.t.language %></a>
<% if (it.operator !== null) { %>
<form method="post" action="/console/sign-out"><input type="hidden" name="csrf" value="<%= it.csrf %>"><span class="muted"><%= it.operator %></span> <button class="plain"><%= it.t.signOut %></button></form>
<% } %>
</div>
</header>
<main id="content" tabindex="-1">
<h1><%= it.heading %></h1>
<%~ it.body %>
</main>
<footer><%= it.t.zone %></footer>
</body>
</html>`

const SIGN_IN = `<% layout('@layout', { heading: it.t.signIn }) %>
<form class="card" method="post" action="/console/sign-in">
<% if (it.problem) { %><p class="notice bad" role="alert"><%= it.problem %></p><% } %>
<p><label for="token"><%= it.t.token %></label>
<input id="token" name="token" type="password" autocomplete="current-password" required maxlength="500"></p>
<button><%= it.t.signIn %></button>
</form>`

const MESSAGE = `<% layout('@layout', { heading: it.heading }) %>
<p class="card notice" role="alert"><%= it.say %></p>
<p><a href="/console"><%= it.t.now %></a></p>`

const SEARCH = `<form class="card row" method="get" action="/console/find" role="search">
<div class="wide"><label for="q"><%= it.t.findHint %></label><input id="q" name="q" type="search" value="<%= it.q %>" maxlength="100" required autocomplete="off" spellcheck="false"></div>
<button><%= it.t.search %></button>
</form>`

const FIND = `<% layout('@layout', { heading: it.t.find }) %>
<%~ include('@search', it) %>
<% if (it.orders !== null && it.orders.length === 0) { %><p class="card" role="status"><%= it.t.notFound %></p><% } %>
<% if (it.orders !== null && it.orders.length > 0) { %>
<section class="card scroll" tabindex="0" aria-label="<%= it.t.orders %>"><table>
<thead><tr><th scope="col"><%= it.t.order %></th><th scope="col"><%= it.t.titleOf %></th><th scope="col"><%= it.t.channel %></th><th scope="col"><%= it.t.status %></th><th scope="col" class="number"><%= it.t.amount %></th><th scope="col"><%= it.t.created %></th></tr></thead>
<tbody><% for (const order of it.orders) { %>
<tr><td><a href="/console/orders/<%= order.id %>"><%= order.id %></a><br><span class="muted"><%= order.businessNo %></span></td><td class="long"><%= order.title ?? '–' %></td><td><%= it.word(order.channel ?? '–') %></td><td><%= it.word(order.status) %></td><td class="number"><%= it.money(order.amountFen, order.currency) %></td><td><%= it.time(order.createdAt) %></td></tr>
<% } %></tbody></table></section>
<% } %>`

const STORY = `<ol class="story" id="story" hx-get="/console/orders/<%= it.orderId %>/story" hx-trigger="every 3s" hx-swap="outerMorph">
<% for (const event of it.events) { %>
<li class="<%= event.kind %>">
<p><time datetime="<%= event.at.toISOString() %>" class="muted"><%= it.time(event.at) %></time> <strong><%= it.t[event.kind + '_event'] %></strong>
<% for (const code of event.words) { %> · <%= it.word(code) %><% } %></p>
<% if (event.lines.length > 0) { %><p><%= event.lines.join(' · ') %></p><% } %>
<% for (const proof of event.evidence) { %>
<details id="<%= proof.id %>"><summary><%= it.t.evidence %>: <%= proof.summary %></summary><pre tabindex="0"><%= proof.text %></pre></details>
<% } %>
</li>
<% } %>
</ol>`

const ORDER = `<% layout('@layout', { heading: it.t.order + ' ' + it.order.id }) %>
<% if (it.done) { %><p class="card notice done" role="status"><%= it.done %></p><% } %>
<div class="grid">
<section class="card" aria-labelledby="facts"><h2 id="facts"><%= it.t.order %></h2>
<dl>
<dt><%= it.t.businessNo %></dt><dd><%= it.order.businessNo %></dd>
<dt><%= it.t.titleOf %></dt><dd><%= it.order.title ?? '–' %></dd>
<dt><%= it.t.status %></dt><dd><strong><%= it.word(it.order.status) %></strong></dd>
<dt><%= it.t.amount %></dt><dd><%= it.money(it.order.amountFen, it.order.currency) %></dd>
<dt><%= it.t.channel %></dt><dd><%= it.word(it.order.channel ?? '–') %></dd>
<dt><%= it.t.gatewayNo %></dt><dd><%= it.order.gatewayOrderNo ?? '–' %></dd>
<dt><%= it.t.created %></dt><dd><%= it.time(it.order.createdAt) %></dd>
<dt><%= it.t.expires %></dt><dd><%= it.time(it.order.expiresAt) %></dd>
<dt><%= it.t.nextSync %></dt><dd><%= it.time(it.order.nextSyncAt) %></dd>
</dl></section>
<section class="card" aria-labelledby="act"><h2 id="act"><%= it.t.act %></h2>
<div class="actions">
<form method="post" action="/console/orders/<%= it.order.id %>/dry-run" hx-post="/console/orders/<%= it.order.id %>/dry-run" hx-target="#outcome" hx-swap="innerHTML"><input type="hidden" name="csrf" value="<%= it.csrf %>"><button class="quiet"><%= it.t.dryRun %></button></form>
<form method="post" action="/console/orders/<%= it.order.id %>/sync"><input type="hidden" name="csrf" value="<%= it.csrf %>"><button><%= it.t.sync %></button></form>
</div>
<div id="outcome" role="status" aria-live="polite"><% if (it.outcome) { %><%~ include('@outcome', it) %><% } %></div>
</section>
</div>
<section class="card" aria-labelledby="told"><h2 id="told"><%= it.t.story %></h2>
<%~ include('@story', it) %>
</section>`

const OUTCOME = `<h3><%= it.t.result %></h3>
<dl>
<% for (const [name, value] of it.outcome.facts) { %><dt><%= name %></dt><dd><%= value %></dd><% } %>
</dl>
<p><%= it.outcome.why %></p>
<p class="muted"><%= it.t.nothingChanged %></p>`

const CONFIRM = `<% layout('@layout', { heading: it.question }) %>
<section class="card">
<p><span class="muted"><%= it.t.concerns %></span><br><span class="big"><%= it.money(it.fen, it.currency) %></span></p>
<dl><% for (const [name, value] of it.facts) { %><dt><%= name %></dt><dd><%= value %></dd><% } %></dl>
<form method="post" action="<%= it.action %>">
<input type="hidden" name="csrf" value="<%= it.csrf %>"><input type="hidden" name="confirmed" value="yes">
<% for (const [name, value] of Object.entries(it.fields)) { %><input type="hidden" name="<%= name %>" value="<%= value %>"><% } %>
<p class="actions"><button><%= it.t.confirm %></button> <a class="button quiet" href="<%= it.back %>"><%= it.t.back %></a></p>
</form>
</section>`

const LIVE = `<div id="live" hx-get="/console/live" hx-trigger="every 5s" hx-swap="outerMorph">
<div class="grid">
<section class="card" aria-labelledby="unsettled"><h2 id="unsettled"><%= it.t.unsettled %></h2>
<p class="big"><%= it.money(it.totalFen) %></p>
<% if (it.unsettled.length === 0) { %><p><%= it.t.nothing %></p><% } else { %>
<div class="scroll" tabindex="0" role="group" aria-labelledby="unsettled"><table><thead><tr><th scope="col"><%= it.t.channel %></th><th scope="col"><%= it.t.age %></th><th scope="col" class="number"><%= it.t.orders %></th><th scope="col" class="number"><%= it.t.money %></th></tr></thead>
<tbody><% for (const row of it.unsettled) { %><tr><td><%= it.word(row.channel ?? '–') %></td><td><%= it.word('age_' + row.age) %></td><td class="number"><%= row.orders %></td><td class="number"><%= it.money(row.amountFen) %></td></tr><% } %></tbody></table></div><% } %>
</section>
<section class="card" aria-labelledby="findings"><h2 id="findings"><a href="/console/exceptions"><%= it.t.openExceptions %></a></h2>
<% if (it.findings.length === 0) { %><p class="good"><%= it.t.nothing %></p><% } else { %>
<div class="scroll" tabindex="0" role="group" aria-labelledby="findings"><table><thead><tr><th scope="col"><%= it.t.kind %></th><th scope="col" class="number"><%= it.t.count %></th><th scope="col" class="number"><%= it.t.atRisk %></th></tr></thead>
<tbody><% for (const row of it.findings) { %><tr><td><a href="/console/exceptions?kind=<%= row.kind %>"><%= it.word(row.kind) %></a></td><td class="number"><%= row.count %></td><td class="number"><%= it.money(row.atRiskFen) %></td></tr><% } %></tbody></table></div><% } %>
</section>
<section class="card" aria-labelledby="gateways"><h2 id="gateways"><%= it.t.gateways %></h2>
<div class="scroll" tabindex="0" role="group" aria-labelledby="gateways"><table><thead><tr><th scope="col"><%= it.t.channel %></th><th scope="col"><%= it.t.breaker %></th><th scope="col" class="number"><%= it.t.sweeperLag %></th></tr></thead>
<tbody><% for (const row of it.channels) { %><tr><td><%= it.word(row.channel) %></td><td class="<%= row.breaker === 'closed' ? 'good' : 'bad' %>"><%= it.word('breaker_' + row.breaker) %></td><td class="number"><%= it.wait(row.lagS) %></td></tr><% } %></tbody></table></div>
<p><span class="muted"><%= it.t.noticeLag %></span> <strong><%= it.wait(it.noticeLagS) %></strong></p>
</section>
</div>
</div>`

const NOW = `<% layout('@layout', { heading: it.t.now, curves: true }) %>
<%~ include('@search', { ...it, q: '' }) %>
<%~ include('@live', it) %>
<h2><%= it.t.curves %></h2>
<noscript><p class="card"><%= it.t.noCurves %></p></noscript>
<div class="grid curves">
<% for (const [curve, name] of [['syncs', it.t.syncsPerMinute], ['repairs', it.t.repairsPerMinute], ['latency', it.t.latency], ['failures', it.t.failures]]) { %>
<figure class="card" data-curve="<%= curve %>" data-time-label="<%= it.t.time %>"><figcaption><%= name %></figcaption><div class="plot"></div></figure>
<% } %>
</div>`

const EXCEPTIONS = `<% layout('@layout', { heading: it.t.exceptions }) %>
<form class="card row" method="get" action="/console/exceptions">
<div><label for="state"><%= it.t.state %></label><select id="state" name="state"><% for (const state of ['open', 'resolved', 'all']) { %><option value="<%= state %>"<% if (it.state === state) { %> selected<% } %>><%= it.word(state) %></option><% } %></select></div>
<div><label for="kind"><%= it.t.kind %></label><select id="kind" name="kind"><option value=""><%= it.t.all %></option><% for (const kind of it.kinds) { %><option value="<%= kind %>"<% if (it.kind === kind) { %> selected<% } %>><%= it.word(kind) %></option><% } %></select></div>
<button class="quiet"><%= it.t.show %></button>
</form>
<% if (it.rows.length === 0) { %><p class="card"><%= it.t.nothing %></p><% } %>
<% for (const row of it.rows) { %>
<article class="card" aria-labelledby="exception-<%= row.id %>">
<h2 id="exception-<%= row.id %>"><%= it.word(row.kind) %> · <%= it.money(row.atRiskFen) %></h2>
<dl><dt><%= it.t.order %></dt><dd><a href="/console/orders/<%= row.orderId %>"><%= row.orderId %></a></dd><dt><%= it.t.opened %></dt><dd><%= it.time(row.openedAt) %></dd><dt><%= it.t.state %></dt><dd><%= it.word(row.state) %></dd>
<% if (row.note !== null) { %><dt><%= it.t.note %></dt><dd><%= row.note %> <span class="muted">(<%= row.resolvedBy %>, <%= it.time(row.resolvedAt) %>)</span></dd><% } %></dl>
<details><summary><%= it.t.evidence %></summary><pre tabindex="0"><%= it.json(row.evidence) %></pre></details>
<% if (row.state === 'open') { %><form class="row" method="post" action="/console/exceptions/<%= row.id %>/resolve"><input type="hidden" name="csrf" value="<%= it.csrf %>"><div class="wide"><label for="note-<%= row.id %>"><%= it.t.noteHint %></label><input id="note-<%= row.id %>" name="note" required maxlength="1000" autocomplete="off"></div><button><%= it.t.resolve %></button></form><% } %>
</article>
<% } %>
<% if (it.older) { %><p><a href="<%= it.older %>"><%= it.t.more %></a></p><% } %>`

const NOTICES = `<% layout('@layout', { heading: it.t.notices }) %>
<form class="card row" method="get" action="/console/notices">
<div><label for="state"><%= it.t.state %></label><select id="state" name="state"><% for (const state of ['all', 'pending', 'delivered', 'dead']) { %><option value="<%= state %>"<% if (it.state === state) { %> selected<% } %>><%= it.word(state) %></option><% } %></select></div>
<button class="quiet"><%= it.t.show %></button>
</form>
<% if (it.rows.length === 0) { %><p class="card"><%= it.t.nothing %></p><% } else { %>
<section class="card scroll" tabindex="0" aria-label="<%= it.t.notices %>"><table>
<thead><tr><th scope="col"><%= it.t.created %></th><th scope="col"><%= it.t.order %></th><th scope="col"><%= it.t.state %></th><th scope="col" class="number"><%= it.t.attempts %></th><th scope="col"><%= it.t.lastSend %></th><th scope="col"><%= it.t.act %></th></tr></thead>
<tbody><% for (const row of it.rows) { %>
<tr><td><%= it.time(row.createdAt) %></td><td class="long"><a href="/console/orders/<%= row.orderId %>"><%= row.orderId %></a><br><span class="muted"><%= row.url %></span></td><td><%= it.word(row.state) %></td><td class="number"><%= row.attempts %></td><td class="long"><% if (row.history[0]) { %><%= it.word(row.history[0].outcome) %> <%= row.history[0].httpStatus ?? '' %> <span class="muted"><%= row.history[0].excerpt %></span><% } else { %>–<% } %></td>
<td><form method="post" action="/console/notices/<%= row.id %>/redeliver"><input type="hidden" name="csrf" value="<%= it.csrf %>"><button class="quiet" aria-label="<%= it.t.redeliver %>: <%= row.orderId %>"><%= it.t.redeliver %></button></form></td></tr>
<% } %></tbody></table></section><% } %>
<% if (it.older) { %><p><a href="<%= it.older %>"><%= it.t.more %></a></p><% } %>`

const BATCHES = `<% layout('@layout', { heading: it.t.batches }) %>
<section class="card" aria-labelledby="start"><h2 id="start"><%= it.t.startBatch %></h2>
<form class="row" method="post" action="/console/batches"><input type="hidden" name="csrf" value="<%= it.csrf %>">
<div><label for="channel"><%= it.t.channel %></label><select id="channel" name="channel"><option value=""><%= it.t.any %></option><% for (const channel of it.channels) { %><option value="<%= channel %>"><%= it.word(channel) %></option><% } %></select></div>
<div><label for="status"><%= it.t.status %></label><select id="status" name="status"><option value=""><%= it.t.any %></option><% for (const status of it.statuses) { %><option value="<%= status %>"<% if (status === 'progress') { %> selected<% } %>><%= it.word(status) %></option><% } %></select></div>
<div><label for="createdFrom"><%= it.t.from %></label><input id="createdFrom" name="createdFrom" type="datetime-local"></div>
<div><label for="createdTo"><%= it.t.to %></label><input id="createdTo" name="createdTo" type="datetime-local"></div>
<div><label for="limit"><%= it.t.limit %></label><input id="limit" name="limit" type="number" min="1" max="<%= it.limitMax %>" value="<%= it.limit %>" required></div>
<div><label for="ratePerS"><%= it.t.ratePerS %></label><input id="ratePerS" name="ratePerS" type="number" min="1" max="<%= it.ratePerSMax %>" value="<%= it.ratePerS %>" required></div>
<div class="check"><input id="dryRun" name="dryRun" type="checkbox" value="yes" checked><label for="dryRun"><%= it.t.onlyDry %></label></div>
<button><%= it.t.startBatch %></button>
</form></section>
<% if (it.rows.length > 0) { %>
<section class="card scroll" tabindex="0" aria-label="<%= it.t.batches %>"><table>
<thead><tr><th scope="col"><%= it.t.batch %></th><th scope="col"><%= it.t.state %></th><th scope="col"><%= it.t.startedBy %></th><th scope="col"><%= it.t.onlyDry %></th><th scope="col" class="number"><%= it.t.orders %></th><th scope="col"><%= it.t.created %></th></tr></thead>
<tbody><% for (const row of it.rows) { %><tr><td><a href="/console/batches/<%= row.id %>"><%= row.id %></a></td><td><%= it.word(row.state) %></td><td><%= row.actor %></td><td><%= row.dryRun ? it.t.yes : it.t.no %></td><td class="number"><%= row.total %></td><td><%= it.time(row.createdAt) %></td></tr><% } %></tbody></table></section>
<% } %>`

const PROGRESS = `<p><label for="bar"><%= it.t.progress %>: <strong><%= it.done %> / <%= it.batch.total %></strong> · <%= it.word(it.batch.state) %></label>
<progress id="bar" max="<%= Math.max(1, it.batch.total) %>" value="<%= it.done %>"></progress></p>
<% if (it.done > 0) { %>
<div class="scroll" tabindex="0" role="group" aria-label="<%= it.t.result %>"><table><thead><tr><th scope="col"><%= it.t.result %></th><th scope="col" class="number"><%= it.t.orders %></th><th scope="col" class="number"><%= it.t.money %></th></tr></thead>
<tbody><% for (const [result, { count, fen }] of Object.entries(it.results)) { %><tr><td><%= it.word(result) %></td><td class="number"><%= count %></td><td class="number"><%= it.money(fen) %></td></tr><% } %></tbody></table></div>
<% } %>
<div class="actions">
<% if (it.batch.state === 'running') { %>
<form method="post" action="/console/batches/<%= it.batch.id %>/pause"><input type="hidden" name="csrf" value="<%= it.csrf %>"><button><%= it.t.pause %></button></form>
<% } else { %>
<form method="post" action="/console/batches/<%= it.batch.id %>/resume"><input type="hidden" name="csrf" value="<%= it.csrf %>"><button class="quiet"><%= it.t.resume %></button></form>
<% } %>
</div>`

const BATCH = `<% layout('@layout', { heading: it.t.batch + ' ' + it.batch.id }) %>
<section class="card" aria-labelledby="facts"><h2 id="facts"><%= it.t.batch %></h2>
<dl>
<dt><%= it.t.startedBy %></dt><dd><%= it.batch.actor %></dd>
<dt><%= it.t.onlyDry %></dt><dd><%= it.batch.dryRun ? it.t.yes : it.t.no %></dd>
<dt><%= it.t.channel %></dt><dd><%= it.batch.filter.channel === null ? it.t.any : it.word(it.batch.filter.channel) %></dd>
<dt><%= it.t.status %></dt><dd><%= it.batch.filter.status === null ? it.t.any : it.word(it.batch.filter.status) %></dd>
<dt><%= it.t.ratePerS %></dt><dd><%= it.batch.ratePerS %></dd>
<dt><%= it.t.created %></dt><dd><%= it.time(it.batch.createdAt) %></dd>
</dl></section>
<section class="card" id="progress" aria-live="polite"<% if (it.batch.state === 'running') { %> hx-sse:connect="/console/batches/<%= it.batch.id %>/events" hx-swap="innerMorph"<% } %>>
<%~ include('@progress', it) %>
</section>`

export const TEMPLATES = {
  layout: LAYOUT,
  'sign-in': SIGN_IN,
  message: MESSAGE,
  search: SEARCH,
  find: FIND,
  story: STORY,
  order: ORDER,
  outcome: OUTCOME,
  confirm: CONFIRM,
  live: LIVE,
  now: NOW,
  exceptions: EXCEPTIONS,
  notices: NOTICES,
  batches: BATCHES,
  progress: PROGRESS,
  batch: BATCH,
} as const satisfies Record<string, string>

export type TemplateName = keyof typeof TEMPLATES
