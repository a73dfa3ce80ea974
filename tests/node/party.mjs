// One WhatsApp account: Baileys' own Signal repository over an auth state, joined as makeWASocket joins them.
import { silent } from './baileys.mjs'

const base64 = bytes => Buffer.from(bytes).toString('base64')
const bytes = text => Buffer.from(text, 'base64')

export class Party {
	constructor(baileys, auth, { cache = true, transactionOpts } = {}) {
		const { state } = auth
		this.baileys = baileys
		this.auth = auth
		this.creds = state.creds
		const store = cache ? baileys.makeCacheableSignalKeyStore(state.keys, silent) : state.keys
		const config = baileys.DEFAULT_CONNECTION_CONFIG
		this.keys = baileys.addTransactionCapability(store, silent, { ...config.transactionOpts, ...transactionOpts })
		const noServer = async () => undefined // a lookup that WhatsApp's server would answer
		this.signal = config.makeSignalRepository({ creds: this.creds, keys: this.keys }, silent, noServer)
	}

	async updateCreds(update) {
		Object.assign(this.creds, update)
		await this.auth.saveCreds()
	}

	// What WhatsApp's server hands out to someone who writes first. Without an id a new pre-key is made.
	async bundle(preKeyId) {
		const { generateSignalPubKey } = this.baileys
		const { signedIdentityKey, signedPreKey, registrationId } = this.creds
		const [keyId, preKey] = preKeyId ? await this.#storedPreKey(preKeyId) : await this.#newPreKey()
		return {
			registrationId,
			identityKey: base64(generateSignalPubKey(signedIdentityKey.public)),
			signedPreKey: {
				keyId: signedPreKey.keyId,
				publicKey: base64(generateSignalPubKey(signedPreKey.keyPair.public)),
				signature: base64(signedPreKey.signature)
			},
			preKey: { keyId, publicKey: base64(generateSignalPubKey(preKey.public)) }
		}
	}

	async #storedPreKey(id) {
		const found = (await this.keys.get('pre-key', [String(id)]))[id]
		if (!found) throw new Error(`no pre-key ${id} is stored`)
		return [Number(id), found]
	}

	async #newPreKey() {
		const { preKeys, update } = await this.keys.transaction(
			() => this.baileys.getNextPreKeys({ creds: this.creds, keys: this.keys }, 1),
			'pre-keys'
		)
		await this.updateCreds(update)
		const [id] = Object.keys(preKeys)
		return [Number(id), preKeys[id]]
	}

	async inject(jid, bundle) {
		const { registrationId, identityKey, signedPreKey, preKey } = bundle
		const session = {
			registrationId,
			identityKey: bytes(identityKey),
			signedPreKey: {
				keyId: signedPreKey.keyId,
				publicKey: bytes(signedPreKey.publicKey),
				signature: bytes(signedPreKey.signature)
			},
			preKey: { keyId: preKey.keyId, publicKey: bytes(preKey.publicKey) }
		}
		await this.signal.injectE2ESession({ jid, session })
	}

	async encrypt(jid, text) {
		const { type, ciphertext } = await this.signal.encryptMessage({ jid, data: Buffer.from(text) })
		return { type, ciphertext: base64(ciphertext) }
	}

	async decrypt(jid, { type, ciphertext }) {
		const plain = await this.signal.decryptMessage({ jid, type, ciphertext: bytes(ciphertext) })
		return Buffer.from(plain).toString()
	}

	async encryptGroup(group, meId, text) {
		const { ciphertext, senderKeyDistributionMessage } = await this.signal.encryptGroupMessage({
			group,
			meId,
			data: Buffer.from(text)
		})
		return { ciphertext: base64(ciphertext), skdm: base64(senderKeyDistributionMessage) }
	}

	async acceptSenderKey(group, author, skdm) {
		const item = { groupId: group, axolotlSenderKeyDistributionMessage: bytes(skdm) }
		await this.signal.processSenderKeyDistributionMessage({ item, authorJid: author })
	}

	async decryptGroup(group, author, ciphertext) {
		const plain = await this.signal.decryptGroupMessage({ group, authorJid: author, msg: bytes(ciphertext) })
		return Buffer.from(plain).toString()
	}

	async close() {
		this.signal.close?.()
		await this.auth.close()
	}
}
