// node creds.mjs < {"creds": [document, …], "fresh": n}: what does Baileys 7 think of these creds?
//
// Prints {"signed": for each document, whether its identity key signed its pre-key, "agreed": for each,
// whether two of its key pairs agree on one secret, "fresh": n documents of new accounts}.
import { text } from 'node:stream/consumers'
import { fromDocument, loadBaileys, toDocument } from './baileys.mjs'
// Baileys' own Curve.verify throws the answer of this away and is true for every signature.
import { verifySignature } from 'libsignal/src/curve.js'

const baileys = await loadBaileys(7)
const { Curve, generateSignalPubKey, initAuthCreds } = baileys

const isSigned = ({ signedIdentityKey, signedPreKey: { keyPair, signature } }) =>
	verifySignature(generateSignalPubKey(signedIdentityKey.public), generateSignalPubKey(keyPair.public), signature)

const agree = ({ noiseKey: ours, pairingEphemeralKeyPair: theirs }) =>
	Curve.sharedKey(ours.private, theirs.public).equals(Curve.sharedKey(theirs.private, ours.public))

const { creds, fresh } = JSON.parse(await text(process.stdin))
const accounts = creds.map(document => fromDocument(baileys, document))
console.log(
	JSON.stringify({
		signed: accounts.map(isSigned),
		agreed: accounts.map(agree),
		fresh: Array.from({ length: fresh }, () => toDocument(baileys, initAuthCreds()))
	})
)
