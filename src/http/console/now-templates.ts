const LIVE = `<div id="live" hx-get="/console/live" hx-trigger="every 5s" hx-swap="outerMorph">
<% if (it.alarms.length === 0) { %><p class="calm"><%= it.t.allWell %></p><% } else { %>
<section class="card alarm <%= it.alarms.some(({ tone }) => tone === 'bad') ? 'bad' : 'warn' %>" aria-labelledby="attention"><h2 id="attention"><%= it.t.attention %></h2>
<ul class="alarms"><% for (const alarm of it.alarms) { %><li class="<%= alarm.tone %>"><% if (alarm.href === null) { %><%= alarm.name %><% } else { %><a href="<%= alarm.href %>"><%= alarm.name %></a><% } %>: <strong><%= alarm.value %></strong></li><% } %></ul>
</section><% } %>
<%~ include('@search', { ...it, q: '' }) %>
<div class="grid halves">
<section class="card" aria-labelledby="unsettled"><h2 id="unsettled"><%= it.t.unsettled %></h2>
<% if (it.unsettled === null) { %><p class="muted" hx-get="/console/live" hx-trigger="load delay:1s" hx-target="#live" hx-swap="outerMorph"><%= it.t.counting %> <a href="/console"><%= it.t.reload %></a></p><% } else { const table = it.unsettled %>
<p class="big"><%= it.yuan(table.total.fen) %></p>
<p class="muted"><%= it.fen(table.total.fen) %> · <%= it.t.orders %>: <%= table.total.orders %> · <%= it.t.asOf %> <%= it.time(table.at) %></p>
<% if (table.ages.length > 0) { %>
<div class="scroll" tabindex="0" role="group" aria-labelledby="unsettled"><table><thead><tr><th scope="col"><%= it.t.age %></th><% for (const channel of table.channels) { %><th scope="col" class="number"><%= it.word(channel ?? 'no_channel') %></th><% } %></tr></thead>
<tbody><% for (const row of table.ages) { %><tr><th scope="row"><%= it.word('age_' + row.age) %></th><% for (const cell of row.cells) { %><td class="number"><%~ include('@cell', { ...it, cell }) %></td><% } %></tr><% } %></tbody>
<% if (table.ages.length > 1) { %><tfoot><tr><th scope="row"><%= it.t.total %></th><% for (const cell of table.totals) { %><td class="number"><%~ include('@cell', { ...it, cell }) %></td><% } %></tr></tfoot><% } %></table></div>
<% } } %>
</section>
<div>
<section class="card" aria-labelledby="findings"><h2 id="findings"><a href="/console/exceptions"><%= it.t.openExceptions %></a></h2>
<% if (it.findings.length === 0) { %><p class="muted"><%= it.t.nothing %></p><% } else { %>
<div class="scroll" tabindex="0" role="group" aria-labelledby="findings"><table><thead><tr><th scope="col"><%= it.t.kind %></th><th scope="col" class="number"><%= it.t.count %></th><th scope="col" class="number"><%= it.t.atRisk %></th></tr></thead>
<tbody><% for (const row of it.findings) { %><tr><td><a href="/console/exceptions?kind=<%= row.kind %>"><%= it.word(row.kind) %></a></td><td class="number"><%= row.count %></td><td class="number"><%~ include('@money', { ...it, amount: row.atRiskFen }) %></td></tr><% } %></tbody></table></div><% } %>
</section>
<section class="card" aria-labelledby="gateways"><h2 id="gateways"><%= it.t.gateways %></h2>
<div class="scroll" tabindex="0" role="group" aria-labelledby="gateways"><table><thead><tr><th scope="col"><%= it.t.channel %></th><th scope="col"><%= it.t.breaker %></th><th scope="col" class="number"><%= it.t.sweeperLag %></th></tr></thead>
<tbody><% for (const row of it.channels) { %><tr><td><%= it.word(row.channel) %></td><td><%~ include('@code', { ...it, code: 'breaker_' + row.breaker }) %></td><td class="number"><%~ include('@lag', { ...it, lagS: row.lagS }) %></td></tr><% } %></tbody></table></div>
</section>
<section class="card" aria-labelledby="told"><h2 id="told"><%= it.t.openWork %></h2>
<dl><dt><%= it.t.noticeLag %></dt><dd><%~ include('@lag', { ...it, lagS: it.noticeLagS }) %></dd>
<% if (it.openWork !== null) { %><dt><%= it.word('pending') %></dt><dd><a href="/console/notices?state=pending"><%= it.openWork.noticesPending %></a></dd>
<dt><%= it.word('dead') %></dt><dd><a href="/console/notices?state=dead"><%= it.openWork.noticesDead %></a></dd>
<dt><%= it.t.batchesRunning %></dt><dd><a href="/console/batches"><%= it.openWork.batchesRunning %></a><% if (it.openWork.batchItemsLeft > 0) { %> · <%= it.t.left %>: <%= it.openWork.batchItemsLeft %><% } %></dd><% } %></dl>
</section>
</div>
</div>
</div>`

const CELL = `<% if (it.cell.orders === 0) { %>–<% } else { %><span class="money"><%= it.digits(it.cell.fen) %></span> <small class="muted">× <%= it.cell.orders %></small><% } %>`

const LAG = `<% if (it.lagS === null) { %><span class="muted"><%= it.t.nothingDue %></span><% } else { %><span class="<%= it.isLate(it.lagS) ? 'warn' : '' %>"><%= it.wait(it.lagS) %></span><% } %>`

const NOW = `<% layout('@layout', { heading: it.t.now, curves: true }) %>
<%~ include('@live', it) %>
<h2><%= it.t.curves %></h2>
<noscript><p class="card"><%= it.t.noCurves %></p></noscript>
<div class="grid curves">
<% for (const curve of ['syncs', 'repairs', 'latency', 'failures']) { %>
<figure class="card" data-curve="<%= curve %>" data-time-label="<%= it.t.time %>" data-peak-label="<%= it.t.peak %>"><figcaption><%= it.t[curve] %> <small class="muted" data-peaks></small></figcaption><div class="plot"></div></figure>
<% } %>
</div>`

export const NOW_TEMPLATES = { live: LIVE, cell: CELL, lag: LAG, now: NOW } as const
