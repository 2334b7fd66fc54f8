export type XmlFields = readonly (readonly [name: string, value: string])[]

const MEMBER = /\s*<([A-Za-z_][\w]*)>(?:<!\[CDATA\[([\s\S]*?)\]\]>|([^<]*))<\/\1>\s*/y

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

/** XML's own five entities resolved; null where the text names any other. */
function unescaped(text: string): string | null {
  let isKnown = true
  const resolved = text.replaceAll(/&([^;&]*);?/g, (whole, name: string) => {
    const character = whole.endsWith(';') ? ENTITIES[name] : undefined
    isKnown &&= character !== undefined
    return character ?? ''
  })
  return isKnown ? resolved : null
}

/** The members of `<xml>…</xml>`, one level, each at most once; null where the text is anything else. */
export function parseXml(text: string): ReadonlyMap<string, string> | null {
  const body = /^\s*(?:<\?xml[^>]*\?>\s*)?<xml>([\s\S]*)<\/xml>\s*$/.exec(text)?.[1]
  if (body === undefined) {
    return null
  }
  const fields = new Map<string, string>()
  MEMBER.lastIndex = 0
  while (MEMBER.lastIndex < body.length) {
    const match = MEMBER.exec(body)
    const name = match?.[1]
    const value = match?.[2] ?? unescaped(match?.[3] ?? '')
    if (name === undefined || value === null || fields.has(name)) {
      return null
    }
    fields.set(name, value)
  }
  return fields
}

// The gateway writes amounts bare and everything else as CDATA.
const BARE: ReadonlySet<string> = new Set(['total_fee', 'cash_fee', 'settlement_total_fee'])

export function writeXml(fields: XmlFields): string {
  const members = fields.map(([name, value]) =>
    BARE.has(name) ? `<${name}>${value}</${name}>` : `<${name}><![CDATA[${value}]]></${name}>`,
  )
  return `<xml>${members.join('\n')}\n</xml>`
}
