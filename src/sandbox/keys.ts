import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'

/** An RSA key pair of one of the simulated parties. */
export type KeyPair = Readonly<{ privateKey: KeyObject; publicKey: KeyObject }>

const generate = promisify(generateKeyPair)

/** A fresh RSA-2048 pair: the size both gateways use. Costs some 100 ms of CPU, off the event loop. */
export async function newKeyPair(): Promise<KeyPair> {
  return await generate('rsa', { modulusLength: 2048 })
}

// One pair per party and process: tests start many gateways, and none of them needs a key of its own.
const generated = new Map<string, Promise<KeyPair>>()

/** The pair of the named party; generated when first asked for, the same one after that. */
export function sharedKeyPair(party: string): Promise<KeyPair> {
  const known = generated.get(party)
  if (known !== undefined) {
    return known
  }
  const pair = newKeyPair()
  generated.set(party, pair)
  return pair
}

/** The pair in a private-key PEM where one is given, else the shared pair of the party. */
export async function keyPairFrom(privateKeyPem: string | undefined, party: string): Promise<KeyPair> {
  if (privateKeyPem === undefined) {
    return await sharedKeyPair(party)
  }
  const privateKey = createPrivateKey(privateKeyPem)
  return { privateKey, publicKey: createPublicKey(privateKey) }
}

/** PKCS#8 PEM. */
export function privatePem(pair: KeyPair): string {
  return pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
}

/** SPKI PEM. */
export function publicPem(pair: KeyPair): string {
  return pair.publicKey.export({ type: 'spki', format: 'pem' }).toString()
}
