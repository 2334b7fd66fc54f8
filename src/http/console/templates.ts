import { BATCH_TEMPLATES } from './batch-templates.js'
import { NOW_TEMPLATES } from './now-templates.js'
import { ORDER_TEMPLATES } from './order-templates.js'
import { QUEUE_TEMPLATES } from './queue-templates.js'

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
<span class="name">unipay-sync</span>
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
<form class="card narrow" method="post" action="/console/sign-in">
<% if (it.problem) { %><p class="alarm bad" role="alert"><%= it.problem %></p><% } %>
<input type="hidden" name="back" value="<%= it.goal %>">
<p><label for="token"><%= it.t.token %></label>
<input id="token" name="token" type="password" autocomplete="current-password" required maxlength="500"></p>
<button><%= it.t.signIn %></button>
</form>`

const MESSAGE = `<% layout('@layout', { heading: it.heading }) %>
<p class="card alarm bad" role="alert"><%= it.say %></p>
<p><a href="/console"><%= it.t.now %></a></p>`

const GONE = `<p class="alarm bad" role="alert"><%= it.t.ended %> <a href="/console/sign-in"><%= it.t.signIn %></a></p>`

/** Money in a column: yuan to read, fen for the record. */
const MONEY = `<span class="money"><%= it.yuan(it.amount, it.currency) %></span> <small class="muted"><%= it.fen(it.amount) %></small>`

const CODE = `<span class="tag <%= it.tone(it.code) %>"><%= it.word(it.code) %></span>`

const FACTS = `<dl><% for (const [name, value] of it.facts) { %><dt><%= name %></dt><dd><bdi><%= value %></bdi></dd><% } %></dl>`

const CONFIRM = `<% layout('@layout', { heading: it.question }) %>
<section class="card">
<p class="muted"><%= it.t.concerns %></p>
<p class="big"><%~ include('@money', { ...it, amount: it.amountFen, currency: it.currency }) %></p>
<%~ include('@facts', it) %>
<% if (it.action === null) { %><p class="muted" role="status"><%= it.t.noMatch %></p>
<p class="actions"><a class="button quiet" href="<%= it.back %>"><%= it.t.back %></a></p>
<% } else { %>
<form method="post" action="<%= it.action %>">
<input type="hidden" name="csrf" value="<%= it.csrf %>">
<% for (const [name, value] of Object.entries(it.fields)) { %><input type="hidden" name="<%= name %>" value="<%= value %>"><% } %>
<% if (it.withNote) { %><p><label for="note"><%= it.t.noteHint %></label>
<textarea id="note" name="note" rows="3" required maxlength="1000"></textarea></p><% } %>
<p class="actions"><button><%= it.t.confirm %></button> <a class="button quiet" href="<%= it.back %>"><%= it.t.back %></a></p>
</form>
<% } %>
</section>`

export const TEMPLATES = {
  layout: LAYOUT,
  'sign-in': SIGN_IN,
  message: MESSAGE,
  gone: GONE,
  money: MONEY,
  code: CODE,
  facts: FACTS,
  confirm: CONFIRM,
  ...NOW_TEMPLATES,
  ...ORDER_TEMPLATES,
  ...QUEUE_TEMPLATES,
  ...BATCH_TEMPLATES,
} as const satisfies Record<string, string>

export type TemplateName = keyof typeof TEMPLATES
