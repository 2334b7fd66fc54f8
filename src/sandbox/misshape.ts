import type { FaultName } from './faults.js'

// Above the 1 MiB that a careful client reads, below what would slow the tests.
const HUGE_CHARS = 2 * 1024 * 1024
// Deep enough for a recursive reader to run out of stack, in 200 kB.
const DEEP_LEVELS = 100_000

function withMember(objectText: string, name: string, valueText: string): string {
  const rest = objectText.slice(1)
  return `{"${name}":${valueText}${rest === '}' ? '' : ','}${rest}`
}

const SHAPES: Readonly<Partial<Record<FaultName, (objectText: string) => string>>> = {
  empty: () => '',
  // An XML document where JSON is due.
  doctype: () => '<!DOCTYPE xml [<!ENTITY lie "SUCCESS">]><xml>&lie;</xml>',
  bad_json: (text) => text.slice(0, -1),
  deep: (text) => withMember(text, 'detail', '['.repeat(DEEP_LEVELS) + ']'.repeat(DEEP_LEVELS)),
  huge: (text) => withMember(text, 'detail', `"${'x'.repeat(HUGE_CHARS)}"`),
}

/** The JSON object's text in the shape the fault wants; null where the fault is not about the shape. */
export function misshape(fault: FaultName, objectText: string): string | null {
  return SHAPES[fault]?.(objectText) ?? null
}
