const BATCHES = `<% layout('@layout', { heading: it.t.batches }) %>
<section class="card" aria-labelledby="start"><h2 id="start"><%= it.t.startBatch %></h2>
<form class="row" method="get" action="/console/batches/new">
<div><label for="channel"><%= it.t.channel %></label><select id="channel" name="channel"><option value=""><%= it.t.any %></option><% for (const channel of it.channels) { %><option value="<%= channel %>"><%= it.word(channel) %></option><% } %></select></div>
<div><label for="status"><%= it.t.status %></label><select id="status" name="status"><option value=""><%= it.t.any %></option><% for (const status of it.statuses) { %><option value="<%= status %>"<% if (status === 'progress') { %> selected<% } %>><%= it.word(status) %></option><% } %></select></div>
<div><label for="createdFrom"><%= it.t.from %> (+08)</label><input id="createdFrom" name="createdFrom" type="datetime-local"></div>
<div><label for="createdTo"><%= it.t.to %> (+08)</label><input id="createdTo" name="createdTo" type="datetime-local"></div>
<div><label for="limit"><%= it.t.limit %></label><input id="limit" name="limit" type="number" min="1" max="<%= it.limitMax %>" value="<%= it.limit %>" required></div>
<div><label for="ratePerS"><%= it.t.ratePerS %> (1–<%= it.ratePerSMax %>)</label><input id="ratePerS" name="ratePerS" type="number" min="1" max="<%= it.ratePerSMax %>" value="<%= it.ratePerS %>" required></div>
<div class="check"><input id="dryRun" name="dryRun" type="checkbox" value="yes" checked><label for="dryRun"><%= it.t.onlyDry %></label></div>
<button><%= it.t.next %></button>
</form></section>
<% if (it.rows.length > 0) { %>
<section class="card scroll" tabindex="0" aria-label="<%= it.t.batches %>"><table>
<thead><tr><th scope="col"><%= it.t.batch %></th><th scope="col"><%= it.t.state %></th><th scope="col" class="number"><%= it.t.orders %></th><th scope="col"><%= it.t.startedBy %></th><th scope="col"><%= it.t.created %></th></tr></thead>
<tbody><% for (const row of it.rows) { %><tr><td><a href="/console/batches/<%= row.id %>"><%= it.t.batch %> <%= row.id %></a></td><td><%~ include('@code', { ...it, code: row.state }) %><% if (row.dryRun) { %> <%~ include('@code', { ...it, code: 'dry_run' }) %><% } %></td><td class="number"><%= row.total %></td><td><%= row.actor %></td><td><%= it.time(row.createdAt) %></td></tr><% } %></tbody></table></section>
<% } %>`

const PROGRESS = `<p class="actions"><label for="bar"><%= it.t.progress %></label> <strong class="counted"><%= it.done %> / <%= it.batch.total %></strong> <span role="status"><%~ include('@code', { ...it, code: it.batch.state }) %></span></p>
<progress id="bar" max="<%= Math.max(1, it.batch.total) %>" value="<%= it.done %>"></progress>
<% if (it.done > 0) { %>
<div class="scroll" tabindex="0" role="group" aria-label="<%= it.t.result %>"><table class="compact"><thead><tr><th scope="col"><%= it.t.result %></th><th scope="col" class="number"><%= it.t.orders %></th><th scope="col" class="number"><%= it.t.money %></th></tr></thead>
<tbody><% for (const [result, { count, fen }] of Object.entries(it.results)) { %><tr><td><%~ include('@code', { ...it, code: result }) %></td><td class="number"><%= count %></td><td class="number"><%~ include('@money', { ...it, amount: fen }) %></td></tr><% } %></tbody></table></div>
<% } %>
<p class="actions">
<% for (const act of it.acts) { %><a class="button quiet" href="/console/batches/<%= it.batch.id %>/<%= act %>"><%= act === 'resume' && it.batch.state === 'done' ? it.t.askAgain : it.t[act] %></a> <% } %>
</p>`

const BATCH = `<% layout('@layout', { heading: it.t.batch + ' ' + it.batch.id }) %>
<section class="card" id="progress"<% if (it.batch.state === 'running') { %> hx-sse:connect="/console/batches/<%= it.batch.id %>/events" hx-sse:close="over" hx-swap="innerMorph"<% } %>>
<%~ include('@progress', it) %>
</section>
<% if (it.batch.state === 'running') { %><noscript><p><a href="/console/batches/<%= it.batch.id %>"><%= it.t.reload %></a></p></noscript><% } %>
<section class="card" aria-labelledby="facts"><h2 id="facts"><%= it.t.batch %><% if (it.batch.dryRun) { %> <%~ include('@code', { ...it, code: 'dry_run' }) %><% } %></h2>
<dl>
<dt><%= it.t.startedBy %></dt><dd><%= it.batch.actor %></dd>
<% if (it.batch.cancelledBy !== null) { %><dt><%= it.t.stoppedBy %></dt><dd><%= it.batch.cancelledBy %></dd><% } %>
<dt><%= it.t.channel %></dt><dd><%= it.batch.filter.channel === null ? it.t.any : it.word(it.batch.filter.channel) %></dd>
<dt><%= it.t.status %></dt><dd><%= it.batch.filter.status === null ? it.t.any : it.word(it.batch.filter.status) %></dd>
<dt><%= it.t.from %></dt><dd><%= it.batch.filter.createdFrom === null ? it.t.any : it.time(new Date(it.batch.filter.createdFrom)) %></dd>
<dt><%= it.t.to %></dt><dd><%= it.batch.filter.createdTo === null ? it.t.any : it.time(new Date(it.batch.filter.createdTo)) %></dd>
<dt><%= it.t.ratePerS %></dt><dd><%= it.batch.ratePerS %></dd>
<dt><%= it.t.created %></dt><dd><%= it.time(it.batch.createdAt) %></dd>
<% if (it.batch.finishedAt !== null) { %><dt><%= it.t.finished %></dt><dd><%= it.time(it.batch.finishedAt) %></dd><% } %>
</dl></section>`

export const BATCH_TEMPLATES = { batches: BATCHES, progress: PROGRESS, batch: BATCH } as const
