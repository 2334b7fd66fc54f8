const EXCEPTIONS = `<% layout('@layout', { heading: it.t.exceptions }) %>
<form class="card row" method="get" action="/console/exceptions">
<div><label for="state"><%= it.t.state %></label><select id="state" name="state"><% for (const state of ['open', 'resolved', 'all']) { %><option value="<%= state %>"<% if (it.state === state) { %> selected<% } %>><%= it.word(state) %></option><% } %></select></div>
<div><label for="kind"><%= it.t.kind %></label><select id="kind" name="kind"><option value=""><%= it.t.all %></option><% for (const kind of it.kinds) { %><option value="<%= kind %>"<% if (it.kind === kind) { %> selected<% } %>><%= it.word(kind) %></option><% } %></select></div>
<button class="quiet"><%= it.t.show %></button>
</form>
<% if (it.rows.length === 0) { %><p class="card calm"><%= it.t.nothing %></p><% } %>
<% for (const row of it.rows) { %>
<article class="card" aria-labelledby="exception-<%= row.id %>">
<h2 id="exception-<%= row.id %>"><%= it.word(row.kind) %> <%~ include('@code', { ...it, code: row.state }) %></h2>
<p class="big"><%~ include('@money', { ...it, amount: row.atRiskFen }) %></p>
<dl><% for (const [name, value] of row.compared) { %><dt><%= name %></dt><dd><bdi><%= value %></bdi></dd><% } %>
<dt><%= it.t.order %></dt><dd><a href="/console/orders/<%= row.orderId %>"><%= row.orderId %></a></dd>
<dt><%= it.t.opened %></dt><dd><%= it.time(row.openedAt) %></dd>
<% if (row.seenCount > 1) { %><dt><%= it.t.seen %></dt><dd><%= it.time(row.lastSeenAt) %> · × <%= row.seenCount %></dd><% } %>
<% if (row.note !== null) { %><dt><%= it.t.note %></dt><dd><bdi><%= row.note %></bdi> <span class="muted">(<%= row.resolvedBy %>, <%= it.time(row.resolvedAt) %>)</span></dd><% } %></dl>
<details><summary><%= it.t.evidence %></summary><pre tabindex="0" dir="ltr"><%= it.json(row.evidence) %></pre></details>
<% if (row.state === 'open') { %><p class="actions"><a class="button" href="/console/exceptions/<%= row.id %>/resolve" aria-label="<%= it.t.resolve %>: <%= row.orderId %>"><%= it.t.resolve %></a></p><% } %>
</article>
<% } %>
<% if (it.older) { %><p><a href="<%= it.older %>"><%= it.t.more %></a></p><% } %>`

const NOTICES = `<% layout('@layout', { heading: it.t.notices }) %>
<form class="card row" method="get" action="/console/notices">
<div><label for="state"><%= it.t.state %></label><select id="state" name="state"><% for (const state of ['all', 'pending', 'delivered', 'dead', 'superseded']) { %><option value="<%= state %>"<% if (it.state === state) { %> selected<% } %>><%= it.word(state) %></option><% } %></select></div>
<button class="quiet"><%= it.t.show %></button>
</form>
<% if (it.rows.length === 0) { %><p class="card calm"><%= it.t.nothing %></p><% } else { %>
<section class="card scroll" tabindex="0" aria-label="<%= it.t.notices %>"><table>
<thead><tr><th scope="col"><%= it.t.order %></th><th scope="col"><%= it.t.state %></th><th scope="col" class="number"><%= it.t.attempts %></th><th scope="col"><%= it.t.lastSend %></th><th scope="col"><%= it.t.created %></th><th scope="col"><%= it.t.act %></th></tr></thead>
<tbody><% for (const row of it.rows) { const last = row.history[0] %>
<tr><td class="long"><a class="whole" href="/console/orders/<%= row.orderId %>"><%= row.orderId %></a><br><small class="muted"><bdi><%= row.url %></bdi></small></td><td><%~ include('@code', { ...it, code: row.state }) %></td><td class="number"><%= row.attempts %></td><td class="long"><% if (last) { %><%~ include('@code', { ...it, code: last.outcome }) %> <%= last.httpStatus === null ? '' : 'HTTP ' + last.httpStatus %> <small class="muted"><bdi><%= last.excerpt %></bdi></small><% } else { %>–<% } %></td><td><%= it.time(row.createdAt) %></td>
<td><% if (row.state !== 'superseded') { %><a class="whole" href="/console/notices/<%= row.id %>/redeliver" aria-label="<%= it.t.redeliver %>: <%= row.orderId %>"><%= it.t.redeliver %></a><% } %></td></tr>
<% } %></tbody></table></section><% } %>
<% if (it.older) { %><p><a href="<%= it.older %>"><%= it.t.more %></a></p><% } %>`

export const QUEUE_TEMPLATES = { exceptions: EXCEPTIONS, notices: NOTICES } as const
