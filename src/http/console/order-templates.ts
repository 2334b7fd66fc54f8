const SEARCH = `<form class="card row" method="get" action="/console/find" role="search">
<div class="wide"><label for="q"><%= it.t.findHint %></label><input id="q" name="q" type="search" value="<%= it.q %>" maxlength="100" required autocomplete="off" spellcheck="false"></div>
<button><%= it.t.search %></button>
</form>`

const FIND = `<% layout('@layout', { heading: it.t.find }) %>
<%~ include('@search', it) %>
<% if (it.orders !== null && it.orders.length === 0) { %><p class="card" role="status"><%= it.t.notFound %></p><% } %>
<% if (it.orders !== null && it.orders.length > 0) { %>
<section class="card scroll" tabindex="0" aria-label="<%= it.t.orders %>"><table>
<thead><tr><th scope="col"><%= it.t.order %></th><th scope="col"><%= it.t.status %></th><th scope="col" class="number"><%= it.t.amount %></th><th scope="col"><%= it.t.channel %></th><th scope="col"><%= it.t.titleOf %></th><th scope="col"><%= it.t.created %></th></tr></thead>
<tbody><% for (const order of it.orders) { %>
<tr><td><a href="/console/orders/<%= order.id %>"><%= order.id %></a><br><small class="muted"><bdi><%= order.businessNo %></bdi></small></td><td><%~ include('@code', { ...it, code: order.status }) %></td><td class="number"><%~ include('@money', { ...it, amount: order.amountFen, currency: order.currency }) %></td><td class="whole"><%= it.word(order.channel ?? 'no_channel') %></td><td class="long"><bdi><%= order.title ?? '–' %></bdi></td><td class="whole"><%= it.time(order.createdAt) %></td></tr>
<% } %></tbody></table></section>
<% if (it.isCut) { %><p class="muted"><%= it.t.cut %></p><% } %>
<% } %>`

const STORY = `<ol class="story" id="story" hx-get="/console/orders/<%= it.orderId %>/story" hx-trigger="every 3s" hx-swap="outerMorph">
<% for (const event of it.events) { %>
<li class="<%= event.kind %>">
<p><time datetime="<%= event.at.toISOString() %>" class="muted"><%= it.time(event.at) %></time> <strong><%= it.t[event.kind + '_event'] %></strong>
<% for (const code of event.codes) { %><%~ include('@code', { ...it, code }) %> <% } %></p>
<% if (event.lines.length > 0) { %><p><% for (const [index, line] of event.lines.entries()) { %><%= index === 0 ? '' : ' · ' %><bdi><%= line %></bdi><% } %></p><% } %>
<% for (const proof of event.evidence) { %>
<details id="<%= proof.id %>"><summary><%= it.t.evidence %><% if (proof.summary !== null) { %>: <bdi><%= proof.summary %></bdi><% } %></summary><pre tabindex="0" dir="ltr"><%= proof.text %></pre></details>
<% } %>
<% if (event.action !== null) { %><p><a href="<%= event.action.href %>"><%= it.t[event.action.word] %></a></p><% } %>
</li>
<% } %>
</ol>`

const ORDER = `<% layout('@layout', { heading: it.t.order + ' ' + it.order.id }) %>
<% if (it.done) { %><p class="card alarm good" role="status"><%= it.done %></p><% } %>
<% for (const finding of it.open) { %>
<p class="card alarm bad"><%= it.t.needsHuman %> <strong><%= it.word(finding.kind) %></strong> · <%= it.money(finding.atRiskFen) %> <a href="/console/exceptions/<%= finding.id %>/resolve"><%= it.t.resolve %></a></p>
<% } %>
<div class="grid">
<section class="card" aria-labelledby="facts"><h2 id="facts"><%~ include('@code', { ...it, code: it.order.status }) %></h2>
<p class="big"><%~ include('@money', { ...it, amount: it.order.amountFen, currency: it.order.currency }) %></p>
<dl>
<dt><%= it.t.titleOf %></dt><dd><bdi><%= it.order.title ?? '–' %></bdi></dd>
<dt><%= it.t.businessNo %></dt><dd><bdi><%= it.order.businessNo %></bdi></dd>
<dt><%= it.t.channel %></dt><dd><%= it.word(it.order.channel ?? 'no_channel') %></dd>
<dt><%= it.t.gatewayNo %></dt><dd><bdi><%= it.order.gatewayOrderNo ?? '–' %></bdi></dd>
<dt><%= it.t.created %></dt><dd><%= it.time(it.order.createdAt) %></dd>
<dt><%= it.t.expires %></dt><dd><%= it.time(it.order.expiresAt) %></dd>
<% if (it.order.payTime !== null) { %><dt><%= it.t.paid %></dt><dd><%= it.time(it.order.payTime) %></dd><% } %>
<% if (it.order.closeTime !== null) { %><dt><%= it.t.closed %></dt><dd><%= it.time(it.order.closeTime) %></dd><% } %>
<% if (it.order.nextSyncAt !== null) { %><dt><%= it.t.nextSync %></dt><dd><%= it.time(it.order.nextSyncAt) %></dd><% } %>
</dl></section>
<section class="card" aria-labelledby="act"><h2 id="act"><%= it.t.act %></h2>
<div class="actions">
<form method="post" action="/console/orders/<%= it.order.id %>/dry-run" hx-post="/console/orders/<%= it.order.id %>/dry-run" hx-target="#outcome" hx-swap="innerHTML"><input type="hidden" name="csrf" value="<%= it.csrf %>"><button class="quiet"><%= it.t.dryRun %></button></form>
<a class="button" href="/console/orders/<%= it.order.id %>/sync"><%= it.t.sync %></a>
</div>
<div id="outcome" role="status" aria-live="polite"><% if (it.outcome) { %><%~ include('@outcome', it) %><% } %></div>
</section>
</div>
<section class="card" aria-labelledby="told"><h2 id="told"><%= it.t.story %></h2>
<%~ include('@story', it) %>
</section>`

const OUTCOME = `<h3><%= it.t.result %></h3>
<%~ include('@facts', { ...it, facts: it.outcome.facts }) %>
<p><bdi><%= it.outcome.why %></bdi></p>
<% if (it.outcome.isDry) { %><p class="muted"><%= it.t.nothingChanged %></p><% } %>`

export const ORDER_TEMPLATES = { search: SEARCH, find: FIND, story: STORY, order: ORDER, outcome: OUTCOME } as const
