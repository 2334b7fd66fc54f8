/** The page of the interface, in Eta's language; `it` is the view. Nothing in it needs a script. */
const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title><%= it.title %> <%= it.version %>: the interface</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/docs.css">
</head>
<body>
<a class="skip" href="#content">Skip to content</a>
<header><span class="name"><%= it.title %> <%= it.version %></span>
<nav aria-label="Sections"><ul>
<% for (const group of it.groups) { %><li><a href="#<%= group.name %>"><%= group.name %></a></li><% } %>
<% if (it.schemas.length > 0) { %><li><a href="#schemas">schemas</a></li><% } %>
<li><a href="/openapi.json">openapi.json</a></li>
</ul></nav></header>
<main id="content" tabindex="-1">
<h1>The interface</h1>
<section class="card" aria-label="About">
<%~ include('@blocks', { blocks: it.about }) %>
<p>The lines for the shell below need <code>UNIPAY=http://127.0.0.1:9000</code> or wherever this is, <code>TOKEN=…</code>, and what they name besides.</p>
</section>
<% for (const group of it.groups) { %>
<section aria-labelledby="<%= group.name %>">
<h2 id="<%= group.name %>"><%= group.name %></h2>
<p><%~ include('@pieces', { pieces: group.about }) %></p>
<ul class="index"><% for (const operation of group.operations) { %><li><a href="#<%= operation.id %>"><%= operation.name %></a></li><% } %></ul>
<% for (const operation of group.operations) { %><%~ include('@operation', { operation }) %><% } %>
</section>
<% } %>
<% if (it.schemas.length > 0) { %>
<section aria-labelledby="schemas">
<h2 id="schemas">schemas</h2>
<% for (const schema of it.schemas) { %>
<article class="card" aria-labelledby="schema-<%= schema.name %>"><h3 id="schema-<%= schema.name %>"><%= schema.name %></h3>
<%~ include('@fields', schema) %>
</article>
<% } %>
</section>
<% } %>
</main>
</body>
</html>
`

const OPERATION = `<article class="card" aria-labelledby="<%= it.operation.id %>">
<h3 id="<%= it.operation.id %>"><code><%= it.operation.name %></code></h3>
<p><%= it.operation.summary %><% if (it.operation.isForOperators) { %> <span class="muted">· for operators, by token</span><% } %></p>
<%~ include('@blocks', { blocks: it.operation.about }) %>
<% if (it.operation.parameters.length > 0) { %><h4>In the address</h4>
<%~ include('@fields', { fields: it.operation.parameters }) %><% } %>
<% for (const body of it.operation.bodies) { %><h4>Body, <code><%= body.type %></code></h4>
<%~ include('@body', { body }) %><% } %>
<% if (it.operation.curls.length > 0) { %><h4>From a shell</h4><% } %>
<% for (const curl of it.operation.curls) { %><pre class="curl" tabindex="0"><%= curl %></pre><% } %>
<h4>Answers</h4>
<dl><% for (const answer of it.operation.answers) { %>
<dt><code><%= answer.status %></code></dt><dd><%~ include('@pieces', { pieces: answer.about }) %><% if (answer.body && answer.body.schema) { %> <span class="muted"><%= answer.body.type %>:</span> <%~ include('@pieces', { pieces: answer.body.schema }) %><% } %></dd>
<% } %></dl>
<% for (const answer of it.operation.answers) { %><% if (answer.body && answer.body.fields.length > 0) { %>
<h4>Body of <code><%= answer.status %></code>, <code><%= answer.body.type %></code></h4>
<%~ include('@body', answer) %><% } %><% } %>
</article>`

const BODY = `<% if (it.body.about.length > 0) { %><p><%~ include('@pieces', { pieces: it.body.about }) %></p><% } %>
<%~ include('@fields', it.body) %>
<% for (const example of it.body.examples) { %><details><summary><%= example.summary %></summary><pre tabindex="0"><%= example.text %></pre></details><% } %>`

const FIELDS = `<% if (it.fields.length > 0) { %><dl class="fields"><% for (const field of it.fields) { %>
<dt><code><%= field.name %></code><% if (field.note) { %> <span class="note"><%= field.note %></span><% } %></dt>
<dd><%~ include('@pieces', { pieces: field.type }) %><% if (field.about.length > 0) { %><br><%~ include('@pieces', { pieces: field.about }) %><% } %></dd>
<% } %></dl><% } %>`

const BLOCKS = `<% for (const block of it.blocks) { %><% if (block.lines) { %><p><%~ include('@pieces', { pieces: block.lines }) %></p>
<% } else { %><div class="scroll" tabindex="0" role="group" aria-label="Table"><table><thead><tr><% for (const cell of block.head) { %><th scope="col"><%~ include('@pieces', { pieces: cell }) %></th><% } %></tr></thead>
<tbody><% for (const row of block.rows) { %><tr><% for (const cell of row) { %><td><%~ include('@pieces', { pieces: cell }) %></td><% } %></tr><% } %></tbody></table></div>
<% } %><% } %>`

const PIECES = `<% for (const piece of it.pieces) { %><% if (piece.as === 'code') { %><code><%= piece.text %></code><% } else if (piece.as === 'strong') { %><strong><%= piece.text %></strong><% } else if (piece.as === 'schema') { %><a href="#schema-<%= piece.text %>"><%= piece.text %></a><% } else { %><%= piece.text %><% } %><% } %>`

export const TEMPLATES = {
  page: PAGE,
  operation: OPERATION,
  body: BODY,
  fields: FIELDS,
  blocks: BLOCKS,
  pieces: PIECES,
} as const

/** Beside the console's own looks. */
export const DOCS_STYLE = `
h2 { font-size: 1.2rem; margin: 1.6rem 0 .4rem; scroll-margin-top: 1rem }
h3 { font-size: 1.05rem; margin: 0 0 .4rem; overflow-wrap: anywhere }
h4 { font-size: .95rem; margin: 1rem 0 .3rem; color: var(--muted) }
code { font-size: .95em; overflow-wrap: anywhere }
dd { overflow-wrap: anywhere }
.fields { grid-template-columns: minmax(9rem, max-content) 1fr }
.fields dt { color: var(--ink); overflow-wrap: anywhere }
.note { color: var(--bad); font-size: .85em }
.index { list-style: none; margin: .4rem 0 1rem; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem }
.index a { display: inline-block; padding: .25rem 0 }
pre { margin: .3rem 0 }
summary { padding: .2rem 0 }
@media (max-width: 600px) { .fields { grid-template-columns: 1fr } }
`
