import { expect, it } from 'vitest'

import { forwardedAddresses } from '../../src/http/forwarded.js'

it.each([
  ['203.0.113.7', '203.0.113.7'],
  ['203.0.113.7:4711', '203.0.113.7'],
  ['2001:db8::7', '2001:db8::7'],
  ['[2001:db8::7]', '2001:db8::7'],
  ['[2001:db8::7]:4711', '2001:db8::7'],
  ['203.0.113.7:1,10.0.0.1:2,  [fd00::1]:3', '203.0.113.7, 10.0.0.1, fd00::1'],
  [' , 203.0.113.7 ,', '203.0.113.7'],
  // What is no address was vouched for by nobody, nor was anything before it.
  ['203.0.113.7, unknown, 10.0.0.1', '10.0.0.1'],
  ['203.0.113.7, 10.0.0.1, _hidden:1', ''],
  ['203.0.113.7:port', ''],
  ['fe80::1%eth0', ''],
  ['', ''],
])('X-Forwarded-For: %s names the addresses %s', (header, addresses) => {
  expect(forwardedAddresses(header)).toBe(addresses)
})
