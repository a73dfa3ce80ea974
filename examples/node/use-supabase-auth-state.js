/**
 * Baileys auth state in Supabase, for Node: what `useMultiFileAuthState` is for a folder, on the
 * tables and functions of supabase-auth-state. One file, for Baileys 7 and 6.7.
 *
 *     const { state, saveCreds, close } = await useSupabaseAuthState('962302', { lease: true })
 *     const sock = makeWASocket({ auth: state })
 *     sock.ev.on('creds.update', () => saveCreds().catch(error => sock.end(error)))
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes, randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * @typedef {import('baileys').AuthenticationState} AuthenticationState
 * @typedef {Pick<typeof import('baileys'), 'BufferJSON' | 'initAuthCreds' | 'proto'>} Baileys
 * @typedef {import('@supabase/supabase-js').SupabaseClient<any, any, any>} SupabaseClient
 * @typedef {{ data: any, error: any, status: number, receipt?: string | null }} Answer
 * @typedef {(answer: Answer) => boolean} Expected
 * @typedef {{ company_id: string, key_type: string, key_id: string, value: any }} Row
 * @typedef {{ number: string, headers: Record<string, string> }} Commit
 * @typedef {{ commit?: Commit, harmlessLate?: boolean, within?: number }} Sending
 *
 * @typedef {object} Options
 * @property {SupabaseClient} [client] made with a service key; otherwise `SUPABASE_URL` and
 *   `SUPABASE_SERVICE_ROLE_KEY` (or `SUPABASE_SECRET_KEY`) are taken from the environment
 * @property {Baileys} [baileys] your Baileys module, when it is not installed under that name
 * @property {boolean} [lease] own the company while it is open: nobody else can write it
 * @property {number} [leaseTtl] seconds after which an owner that fell silent can be replaced
 * @property {string} [owner] a name that only this process uses; after a crash it gets its lease
 *   back at once, where a new name has to wait for the time to run out
 * @property {(error: AuthStateError) => void} [onLeaseLost] end your socket here
 * @property {boolean} [create] false: an unknown company is an error, not a new device
 * @property {number} [giveUpAfter] milliseconds after which a request that keeps failing is given up
 * @property {number} [timeout] milliseconds to wait for one answer
 * @property {string | ((companyId: string) => string | Promise<string>)} [encryption] the keys that seal
 *   values, `k2:<base64>,k1:<base64>`, or what gives them; otherwise `SUPABASE_AUTH_STATE_KEYS`
 */

/** Which clients understand the bytes in the rows. WAeys, in Python, shares this family. */
const FAMILY = 'baileys'

const PREFER = 'resolution=merge-duplicates,return=minimal'

/**
 * What failed, and on what; never a stored value. `code` is one of
 *
 * - `CONFIGURATION`: URL, key or company id is missing or of the wrong kind
 * - `UNAVAILABLE`: no answer, after all retries
 * - `REFUSED`: the database or the gateway said no
 * - `FAMILY_MISMATCH`: the company belongs to another kind of client
 * - `DAMAGED`: a value is not what Baileys writes; `supabase-auth-state doctor` may repair it
 * - `SEALED`: a value is sealed, and the keys that are given do not open it
 * - `UNREAD`: a write over a row that could not be read
 * - `NOT_FOUND`: the company is not stored, and `create` is false
 * - `UNFINISHED_IMPORT`: the company has keys and no creds; run the import again
 * - `ROLLED_BACK`: the database was set back to an earlier moment; stop before sessions are damaged
 * - `LOGGED_OUT`: WhatsApp has logged the company out, and nothing is stored for it until it is reinstated or restored
 * - `LEASE_HELD`, `LEASE_LOST`: another process owns the company
 * - `CLOSED`: a write after `close()`
 */
export class AuthStateError extends Error {
	/** @param {string} code @param {string} message */
	constructor(code, message) {
		super(message)
		this.name = 'AuthStateError'
		this.code = code
	}
}

/**
 * Open the auth state of a company; make a new one only if there certainly is none.
 *
 * @param {string} companyId
 * @param {Options} [options]
 * @returns {Promise<{ state: AuthenticationState, saveCreds: () => Promise<void>, logOut: () => Promise<void>, close: () => Promise<void> }>}
 */
export async function useSupabaseAuthState(companyId, options = {}) {
	if (!companyId || typeof companyId !== 'string') throw new AuthStateError('CONFIGURATION', 'a company id is needed, as text')
	const baileys = options.baileys ?? (await import('baileys'))
	const company = new Company(companyId, options.client ?? (await clientFromEnv()), options)
	const sealKeys = await givenKeys(companyId, options.encryption ?? process.env.SUPABASE_AUTH_STATE_KEYS)
	const codec = sealed(company, sealKeys, makeCodec(company, baileys))
	const writer = new Writer(company, [...sealKeys.byId.keys()])
	const close = async () => {
		await writer.end()
		await writer.lease?.release()
	}
	if (options.lease) writer.lease = await Lease.acquire(company, writer, options)
	try {
		let found = await company.loadCreds()
		if (found.closed) throw new AuthStateError('LEASE_HELD', `${company} is owned by ${found.closed}`)
		if (!found.creds && found.logged_out) {
			throw new AuthStateError('LOGGED_OUT', `${company} was logged out: reinstate it to link a new device, or restore it`)
		}
		if (!found.creds && !found.has_keys) {
			if (options.create === false) throw new AuthStateError('NOT_FOUND', `${company} is not in the database`)
			writer.epoch = found.epoch
			const fresh = codec.encode('creds', '', baileys.initAuthCreds())
			found = company.checkFamily(await writer.createCompany(fresh)) // another process may have been first
		}
		if (!found.creds) {
			throw new AuthStateError('UNFINISHED_IMPORT', `${company} has keys and no creds: run its import again, or delete it`)
		}
		writer.epoch = found.epoch
		const creds = codec.decode('creds', '', found.creds)
		const keys = makeKeyStore(company, writer, codec)
		const saveCreds = async () => writer.saveCreds(codec.encode('creds', '', creds))
		// After DisconnectReason.loggedOut: into quarantine with all of it, until a person decides.
		const logOut = async () => writer.logOut()
		writer.lease?.check() // it may have been lost meanwhile
		return { state: { creds, keys }, saveCreds, logOut, close }
	} catch (error) {
		await close().catch(() => {}) // the first error is the one to tell
		throw error
	}
}

/**
 * @param {Company} company
 * @param {Writer} writer
 * @param {ReturnType<typeof makeCodec>} codec
 * @returns {AuthenticationState['keys']}
 */
function makeKeyStore(company, writer, codec) {
	/** @type {Set<string>} */
	const unread = new Set()
	let suspectUntil = 0

	/** @type {AuthenticationState['keys']['get']} */
	async function get(type, ids) {
		const names = ids.map(id => `${type} ${id}`)
		try {
			if (ids.length) await writer.fence()
			const stored = ids.length ? await company.loadKeys(type, [...new Set(ids)]) : {}
			const values = Object.entries(stored).map(([id, value]) => [id, codec.decode(type, id, value)])
			names.forEach(name => unread.delete(name))
			return Object.fromEntries(values)
		} catch (error) {
			names.forEach(name => unread.add(name))
			suspectUntil = performance.now() + 60_000 // longer than Baileys tries to commit
			throw error
		}
	}

	/** @type {AuthenticationState['keys']['set']} */
	async function set(data) {
		const rows = Object.entries(data).flatMap(([type, values]) =>
			Object.entries(values ?? {}).map(([id, value]) => ({
				company_id: company.id,
				key_type: type,
				key_id: id,
				value: value ? codec.encode(type, id, value) : null // null deletes the row
			}))
		)
		const blind = rows.find(row => unread.has(`${row.key_type} ${row.key_id}`))
		if (blind) throw unreadError(blind)
		if (!rows.length) return
		await writer.saveKeys(rows, performance.now() < suspectUntil ? () => refuseForgetful(rows) : undefined)
	}

	async function clear() {
		await writer.clearKeys()
		unread.clear() // none of them is stored
	}

	/**
	 * Baileys 7 takes a failed read, of the session or of the mapping that leads to it, for "no
	 * session", and then stores a record that knows only the newest one.
	 *
	 * @param {Row[]} rows
	 */
	async function refuseForgetful(rows) {
		const sessions = rows.filter(row => row.key_type === 'session' && row.value)
		if (!sessions.length) return
		const stored = await company.loadKeys('session', sessions.map(row => row.key_id))
		const forgetful = sessions.find(({ key_id: id, value }) => {
			const known = Object.hasOwn(stored, id) ? Object.keys(codec.decode('session', id, stored[id])._sessions ?? {}) : []
			const written = codec.decode('session', id, value)._sessions ?? {}
			return known.length && !known.some(baseKey => Object.hasOwn(written, baseKey))
		})
		if (forgetful) throw unreadError(forgetful)
	}

	/** @param {Row} row */
	function unreadError({ key_type: type, key_id: id }) {
		return new AuthStateError('UNREAD', `${company}: ${type} ${id} is not written, for it could not be read before`)
	}

	return { get, set, clear }
}

/**
 * Between Baileys' values and the JSON documents of the rows, by Baileys' own BufferJSON.
 *
 * @param {Company} company
 * @param {Baileys} baileys
 */
function makeCodec(company, { BufferJSON, proto }) {
	const damaged = (/** @type {string} */ type, /** @type {string} */ id, /** @type {string} */ what) =>
		new AuthStateError('DAMAGED', `${company}: ${`${type} ${id}`.trim()} ${what}; see supabase-auth-state doctor`)

	const isStorable = (/** @type {unknown} */ text) =>
		typeof text !== 'string' || (text.isWellFormed() && !text.includes('\0'))

	// Only screens use display names, and creds that cannot be stored would stay behind the keys for good.
	/** @param {any} creds */
	function withStorableNames(creds) {
		const names = ['name', 'notify', 'verifiedName'].filter(name => !isStorable(creds.me?.[name]))
		const storable = names.map(name => [name, creds.me[name].toWellFormed().replaceAll('\0', '\uFFFD')])
		return names.length ? { ...creds, me: { ...creds.me, ...Object.fromEntries(storable) } } : creds
	}

	/** @param {string} type @param {string} id @param {any} value */
	function check(type, id, value) {
		const wrong = byteFields(type, value).some(
			([bytes, length]) => !ArrayBuffer.isView(bytes) || (length && bytes.byteLength !== length)
		)
		if (wrong) throw damaged(type, id, 'is not what Baileys writes')
	}

	/** @param {string} type @param {string} id @param {any} value */
	function encode(type, id, value) {
		check(type, id, value)
		const text = JSON.stringify(type === 'creds' ? withStorableNames(value) : value, (key, part) => {
			if (!isStorable(key) || !isStorable(part)) throw damaged(type, id, 'holds text that jsonb refuses')
			return BufferJSON.replacer(key, part)
		})
		return JSON.parse(text)
	}

	/** @param {string} type @param {any} stored */
	function revive(type, stored) {
		const value = JSON.parse(JSON.stringify(stored), BufferJSON.reviver)
		if (type !== 'app-state-sync-key') return value
		const key = proto.Message.AppStateSyncKeyData.fromObject(value)
		if (value.keyData && !key.keyData?.length) throw new TypeError('keyData is not base64')
		return key
	}

	/** @param {string} type @param {string} id @param {any} stored */
	function decode(type, id, stored) {
		let value
		try {
			value = revive(type, stored)
		} catch {
			throw damaged(type, id, 'cannot be read by Baileys')
		}
		check(type, id, value)
		return value
	}

	return { encode, decode }
}

/**
 * The keys of a company, in order, and whether the first one seals.
 *
 * @typedef {{ seals: string | null, byId: Map<string, Buffer> }} Keys
 * @param {string} companyId @param {Options['encryption']} encryption
 * @returns {Promise<Keys>}
 */
async function givenKeys(companyId, encryption) {
	if (typeof encryption !== 'function' && !encryption?.trim()) return { seals: null, byId: new Map() }
	// Of a function that gives nothing it is not assumed that values are to be written in plain.
	const text = typeof encryption === 'function' ? await askForKeys(companyId, encryption) : encryption
	const entries = String(text).split(',').map(entry => entry.trim())
	const plain = entries[0] === 'plain' && entries.shift() !== undefined
	/** @type {Keys['byId']} */
	const byId = new Map()
	for (const entry of entries) {
		const [, id, encoded] = /^([\w-]{1,32}):([A-Za-z0-9+/]{43}=)$/.exec(entry) ?? []
		if (!id || id === 'plain' || byId.has(id)) {
			throw new AuthStateError('CONFIGURATION', 'SUPABASE_AUTH_STATE_KEYS is a list such as k2:<base64>,k1:<base64>')
		}
		const info = Buffer.from(companyId)
		byId.set(id, Buffer.from(hkdfSync('sha256', Buffer.from(encoded, 'base64'), 'supabase-auth-state', info, 32)))
	}
	return { seals: plain ? null : [...byId.keys()][0], byId }
}

/** What your function says when it fails may hold a key. @param {string} companyId @param {Function} encryption */
async function askForKeys(companyId, encryption) {
	try {
		return await encryption(companyId)
	} catch {
		throw new AuthStateError('UNAVAILABLE', `company "${companyId}": the function that gives the keys failed`)
	}
}

/**
 * A codec whose rows are sealed with a key that the database does not have: docs/encryption.md.
 *
 * @param {Company} company @param {Keys} keys @param {ReturnType<typeof makeCodec>} codec
 */
function sealed(company, { seals, byId }, codec) {
	/** @param {string} type @param {string} id @param {string} keyId @param {string} device */
	function placeOf(type, id, keyId, device) {
		const [role, keyType] = type === 'creds' && !id ? ['creds', ''] : ['key', type]
		return Buffer.from(['supabase-auth-state', '1', role, keyId, company.id, keyType, id, device].join('\0'))
	}

	/** @param {string} type @param {string} id @param {any} value */
	function encode(type, id, value) {
		const stored = codec.encode(type, id, value)
		if (isSealed(stored)) throw new AuthStateError('DAMAGED', `${company}: ${type} ${id} has a field $sealed`)
		if (!seals) return stored
		const device = type === 'creds' && !id ? deviceOf(stored) : ''
		const place = placeOf(type, id, seals, device)
		const box = sealBox(/** @type {Buffer} */ (byId.get(seals)), place, Buffer.from(JSON.stringify(stored)))
		// Clients before 0.4, which know nothing of this, refuse creds whose noiseKey is no key pair.
		const spoilt = type === 'creds' && !id ? { noiseKey: 'sealed', ...(device && { device }) } : {}
		return { $sealed: seals, v: 1, ...spoilt, box: box.toString('base64') }
	}

	/** @param {string} type @param {string} id @param {any} stored */
	function decode(type, id, stored) {
		if (!isSealed(stored)) return codec.decode(type, id, stored)
		const key = byId.get(stored.$sealed)
		const text = key && stored.v === 1 ? openBox(key, placeOf(type, id, stored.$sealed, stored.device ?? ''), stored.box) : null
		if (text) return codec.decode(type, id, JSON.parse(text.toString()))
		const why = key ? 'does not open with the key' : 'is sealed with a key that is not given:'
		throw new AuthStateError('SEALED', `${company}: ${`${type} ${id}`.trim()} ${why} ${stored.$sealed}`)
	}

	return { encode, decode }
}

const isSealed = (/** @type {any} */ stored) =>
	typeof stored === 'object' && stored !== null && !Array.isArray(stored) && '$sealed' in stored

/** @param {any} creds as they are stored */
function deviceOf({ registrationId, signedIdentityKey }) {
	return createHash('sha256').update(`${registrationId}:${signedIdentityKey.public.data}`).digest('base64')
}

/** XChaCha20-Poly1305 (IETF), which node:crypto has in its parts. @param {Buffer} key @param {Buffer} place @param {Buffer} text */
function sealBox(key, place, text) {
	const nonce = randomBytes(24)
	const cipher = createCipheriv('chacha20-poly1305', ...subkey(key, nonce), { authTagLength: 16 })
	cipher.setAAD(place, { plaintextLength: text.length })
	return Buffer.concat([nonce, cipher.update(text), cipher.final(), cipher.getAuthTag()])
}

/** The text in a box, or null. @param {Buffer} key @param {Buffer} place @param {string} encoded */
function openBox(key, place, encoded) {
	const box = Buffer.from(String(encoded), 'base64')
	if (box.length < 40) return null
	const decipher = createDecipheriv('chacha20-poly1305', ...subkey(key, box.subarray(0, 24)), { authTagLength: 16 })
	decipher.setAAD(place, { plaintextLength: box.length - 40 })
	decipher.setAuthTag(box.subarray(-16))
	try {
		return Buffer.concat([decipher.update(box.subarray(24, -16)), decipher.final()])
	} catch {
		return null
	}
}

/**
 * HChaCha20 of the first 16 bytes of the nonce is the key, and the rest is the nonce. A block of
 * ChaCha20 is HChaCha20 with the first words of its state added: they are taken off again.
 *
 * @param {Buffer} key @param {Buffer} nonce
 * @returns {[Buffer, Buffer]}
 */
function subkey(key, nonce) {
	const block = createCipheriv('chacha20', key, nonce.subarray(0, 16)).update(Buffer.alloc(64))
	const start = Buffer.concat([Buffer.from('expand 32-byte k'), nonce.subarray(0, 16)])
	const derived = Buffer.alloc(32)
	for (let at = 0; at < 32; at += 4) {
		const word = block.readUInt32LE(at < 16 ? at : at + 32) - start.readUInt32LE(at)
		derived.writeUInt32LE(word >>> 0, at)
	}
	return [derived, Buffer.concat([Buffer.alloc(4), nonce.subarray(16)])]
}

/**
 * Where Baileys needs bytes, and how many. A plain object there does no harm here, but later and far
 * away: in the noise handshake, or as a MAC that is silently wrong.
 *
 * @param {string} type
 * @param {any} value
 * @returns {[any, number?][]}
 */
function byteFields(type, value) {
	/** @type {(pair: any) => [any, number?][]} */
	const pair = pair => [[pair?.public, 32], [pair?.private, 32]]
	/** @type {(map: any, field: string, length: number) => [any, number?][]} */
	const each = (map, field, length) => Object.values(map ?? {}).map(item => [item?.[field], length])

	switch (type) {
		case 'creds':
			return [
				...[value.noiseKey, value.pairingEphemeralKeyPair, value.signedIdentityKey].flatMap(pair),
				...pair(value.signedPreKey?.keyPair),
				[value.signedPreKey?.signature, 64],
				...each(value.signalIdentities, 'identifierKey', 33),
				[value.routingInfo ?? Buffer.alloc(0)]
			]
		case 'pre-key':
			return pair(value)
		case 'identity-key':
			return [[value, 33]]
		case 'sender-key':
			return [[value]]
		case 'tctoken':
			return [[value.token]]
		case 'app-state-sync-version':
			return [[value.hash, 128], ...each(value.indexValueMap, 'valueMac', 32)]
		default:
			return []
	}
}

/** The rows of one company. Every request passes through `request`. */
class Company {
	/** What the database's clock is ahead of this process's, in milliseconds. */
	#ahead = Date.now() - performance.now()
	#name = randomBytes(4).toString('hex')
	#requests = 0

	/** @param {string} id @param {SupabaseClient} client @param {Options} options */
	constructor(id, client, { giveUpAfter = 30_000, timeout = 10_000 }) {
		this.id = id
		this.client = client
		this.giveUpAfter = giveUpAfter
		this.timeout = timeout
	}

	toString() {
		return `company "${this.id}"`
	}

	/**
	 * The creds document (null when there certainly is none), whether there are keys, and the epoch.
	 * By POST: Supabase's load balancer sends GETs to replicas, which may be behind.
	 */
	async loadCreds() {
		return this.checkFamily(await this.ask('fetch_whatsapp_creds', {}))
	}

	/** @param {any} found */
	checkFamily(found) {
		const { creds, client_family: family } = found
		if (!creds || family === FAMILY) return found
		throw new AuthStateError('FAMILY_MISMATCH', `${this} belongs to the client family "${family}", this is "${FAMILY}"`)
	}

	/** @param {string} type @param {string[]} ids */
	async loadKeys(type, ids) {
		const { keys } = await this.ask('fetch_whatsapp_keys', { p_keys: { [type]: ids } })
		return keys[type] ?? {}
	}

	/**
	 * Call a function that repeats company and request in its answer: no other answer is taken for it.
	 *
	 * @param {string} name @param {object} args @param {Sending} [sending]
	 */
	async ask(name, args, sending) {
		const id = `${this.#name}-${++this.#requests}`
		const isAnswer = (/** @type {Answer} */ { status, data }) =>
			status === 200 && data?.company_id === this.id && data.request === id && 'time' in data
		const { data } = await this.rpc(name, { ...args, p_request: id }, isAnswer, sending)
		return data
	}

	/** @param {string} name @param {object} args @param {Expected} expected @param {Sending} [sending] */
	rpc(name, args, expected, sending) {
		const call = () => this.client.rpc(name, { p_company_id: this.id, ...args })
		return this.request(`calling ${name}`, call, expected, sending)
	}

	/**
	 * Send a request until it is answered, or give up after a bounded time.
	 *
	 * `expected` is what success looks like; anything else is no answer, whoever sent it. A write is
	 * given up only when its deadline is over: the database refuses every copy of it from then on.
	 *
	 * @param {string} what
	 * @param {() => any} build
	 * @param {Expected} expected
	 * @param {Sending} [sending]
	 * @returns {Promise<Answer>}
	 */
	async request(what, build, expected, { commit, harmlessLate = false, within } = {}) {
		const lastRetry = performance.now() + (within ?? this.giveUpAfter)
		const deadline = within ? lastRetry : Math.max(lastRetry, performance.now() + this.timeout)
		for (let attempt = 0; ; attempt++) {
			const answer = await this.#attempt(build, deadline, commit)
			if (!answer.error && (await this.#isExpected(answer, expected, commit, deadline))) {
				this.#learnTime(answer.data?.time ?? answer.receipt?.split(':')[2])
				return answer
			}
			const { code, message } = answer.error ?? {}
			if (code === 'PT408') this.#learnTime(/^whatsapp deadline: .* ([\d.]+)$/.exec(message)?.[1])
			// A success that is none, or a redirect, says nothing of what happened.
			const status = answer.error ? answer.status : 0
			const judged = JUDGED.test(code)
			const passing = !judged && (status < 400 || [408, 425, 429].includes(status) || status >= 500 || isReplica(answer.error))
			const pause = Math.random() * Math.min(4_000, 200 * 2 ** attempt)
			if (passing && performance.now() + pause < lastRetry) {
				await sleep(pause)
				continue
			}
			// Another copy, of a network that has sent twice, is refused for what it says as well. A gateway's refusal, a missing
			// grant or function, a database that only reads: all these may be over when that copy arrives.
			const certain = judged && attempt === 0
			if (commit && !harmlessLate && !certain) await sleep(Math.max(deadline - performance.now(), 0))
			throw this.#failure(what, answer, passing ? 'UNAVAILABLE' : 'REFUSED')
		}
	}

	/**
	 * @param {() => any} build @param {number} deadline @param {Commit} [commit]
	 * @returns {Promise<Answer>}
	 */
	async #attempt(build, deadline, commit) {
		const query = build()
		for (const [name, value] of Object.entries(this.#headers(commit, deadline))) query.setHeader(name, value)
		/** @type {Headers | undefined} */
		let headers
		const send = query.fetch
		// A redirected POST would become a GET, and supabase-js does not show the headers of an answer.
		query.fetch = async (/** @type {any} */ url, /** @type {any} */ init) => {
			const response = await send(url, { ...init, redirect: 'manual' })
			headers = response.headers
			return response
		}
		const left = Math.max(Math.min(this.timeout, deadline - performance.now()), 1)
		const answer = await query.retry(false).abortSignal(AbortSignal.timeout(Math.ceil(left)))
		return { ...answer, receipt: headers?.get('x-whatsapp-receipt') }
	}

	/** @param {Commit | undefined} commit @param {number} deadline @returns {Record<string, string>} */
	#headers(commit, deadline) {
		const knows = { 'x-whatsapp-knows': 'sealed' }
		if (!commit) return knows
		const until = ((deadline + this.#ahead) / 1000).toFixed(3)
		return { ...knows, ...commit.headers, 'x-whatsapp-commit': commit.number, 'x-whatsapp-deadline': until }
	}

	/** @param {string | number | undefined} time of the database, in seconds since 1970, by an answer that is certainly its own */
	#learnTime(time) {
		if (Number(time) > 0) this.#ahead = Number(time) * 1000 - performance.now()
	}

	/**
	 * @param {Answer} answer @param {Expected} expected @param {Commit | undefined} commit
	 * @param {number} deadline
	 */
	async #isExpected(answer, expected, commit, deadline) {
		if (!expected(answer)) return false
		// An object names what it answers. Nothing, true and false prove nothing without the receipt.
		if (!commit || Object(answer.data) === answer.data) return true
		if (answer.receipt) return answer.receipt.startsWith(`${commit.number}:`)
		// A server that does not pass the receipt on is asked for the number that it has stored.
		const [writer, number] = commit.number.split(':')
		const last = () => this.client.rpc('whatsapp_last_commit', { p_company_id: this.id, p_writer: writer })
		const { data } = await this.#attempt(last, deadline)
		return data?.company_id === this.id && data.writer === writer && data.number === Number(number)
	}

	/**
	 * Repeats the messages of our own functions only: one of Postgres may hold the failing row.
	 *
	 * @param {string} what @param {Answer} answer @param {string} code
	 */
	#failure(what, { error, status }, code) {
		const sqlstate = String(error?.code ?? '')
		const ours = sqlstate.startsWith('PT')
		const why = { 25006: ': the database is read-only', 53100: ': its disk is full' }[sqlstate] ?? (isReplica(error) ? ': this is a replica' : '')
		const reason = ours ? String(error.message) : error ? `HTTP ${status} ${sqlstate}`.trim() + why : `no answer of PostgREST (HTTP ${status})`
		const kinds = {
			'whatsapp lease:': 'LEASE_HELD',
			'whatsapp logout:': 'LOGGED_OUT',
			'whatsapp restore:': 'ROLLED_BACK',
			'whatsapp sealing:': 'SEALED'
		}
		const kind = Object.entries(kinds).find(([start]) => ours && reason.startsWith(start))?.[1]
		return new AuthStateError(kind ?? code, `${this}: ${what} failed: ${reason}`)
	}
}

/** Refused for what the request says, whenever it comes: by our own guard, or for its data. */
const JUDGED = /^(PT409|2[123]\w{3}|54\w{3})$/

/** A replica that only reads, and may be about to take over, refuses what PostgREST begins each write with. @param {any} error */
const isReplica = error => error?.code === '0A000' && /during recovery/.test(error.message)

/** @type {Expected} */
const isStored = ({ status, data }) => (status === 200 || status === 201) && data === null

/** Sends the writes of one company one by one, each under the lease and with its own number. */
class Writer {
	/** @type {Lease | null} */
	lease = null
	/** @type {number | null} for a writer without a lease: each owner of the company begins another */
	epoch = null
	/** names this opening of the company to the database */
	id = randomUUID()
	#company
	/** the last number that is known to be stored */
	stored = 0
	#commits = 0
	#unknown = false
	#closed = false
	/** @type {Set<Promise<unknown>>} */
	#keysUnderWay = new Set()
	/** @type {Promise<unknown>} */
	#last = Promise.resolve()

	#opens

	/** @param {Company} company @param {string[]} opens the ids of the keys that this process has */
	constructor(company, opens) {
		this.#company = company
		this.#opens = opens
	}

	/**
	 * Store creds if the company has neither creds nor keys, and give those that count.
	 *
	 * @param {object} creds
	 */
	createCompany(creds) {
		const fresh = { p_creds: creds, p_client_family: FAMILY }
		return this.#write(commit => this.#company.ask('create_whatsapp_company', fresh, { commit }))
	}

	/**
	 * Creds may count keys that wait to be written: they fail with them, and are never ahead of them.
	 *
	 * @param {object} creds
	 */
	async saveCreds(creds) {
		const row = { company_id: this.#company.id, creds, client_family: FAMILY }
		const counted = [...this.#keysUnderWay]
		await this.#upsert('saving creds', 'whatsapp_auth', [row], 'company_id', () => Promise.all(counted))
	}

	/** @param {Row[]} rows @param {() => Promise<void>} [compare] them with what all earlier writes have left */
	async saveKeys(rows, compare) {
		const first = compare && (() => this.#fence().then(compare))
		const saving = this.#upsert('saving keys', 'whatsapp_keys', rows, 'company_id,key_type,key_id', first)
		this.#keysUnderWay.add(saving)
		await saving.finally(() => this.#keysUnderWay.delete(saving))
	}

	/** By a function, not by `.delete()`: only a statement after the guard sees every row of earlier writes. */
	async clearKeys() {
		await this.#write(commit => this.#receipt('clear_whatsapp_keys', commit))
	}

	/** Creds and keys go into quarantine, and nothing is stored for the company before a person says so. */
	async logOut() {
		const noted = { p_code: 401, p_reason: 'logged out', p_noted_by: `${hostname()}/${this.id}` }
		await this.#write(commit => this.#receipt('log_out_whatsapp_company', commit, noted))
	}

	/** After a write whose outcome is unknown: none of the earlier writes is executed after this. */
	async fence() {
		this.lease?.refuseRestored()
		if (this.#unknown) await this.#inLine(() => this.#fence())
	}

	async #fence() {
		if (!this.#unknown) return
		await this.#send(commit => this.#receipt('fence_whatsapp_writer', commit)).catch(error => {
			// A writer that may not write cannot have an earlier write executed either. Another refusal, as for a missing
			// grant, says nothing of the earlier ones.
			if (!['LEASE_HELD', 'LEASE_LOST'].includes(error.code)) throw error
		})
		this.#unknown = false
	}

	/** Accept no more writes, and wait for those under way. */
	end() {
		this.#closed = true
		return this.#last
	}

	/** The last request was executed: a database that forgets it was set back to an earlier moment. */
	isStored() {
		this.stored = this.#commits
	}

	/** @param {Record<string, string>} [headers] @returns {Commit} */
	nextCommit(headers = {}) {
		return { number: `${this.id}:${++this.#commits}`, headers }
	}

	/**
	 * @param {string} what @param {string} table @param {object[]} rows @param {string} onConflict
	 * @param {() => Promise<unknown>} [first] without which nothing is sent
	 */
	#upsert(what, table, rows, onConflict, first) {
		const upsert = () => this.#company.client.from(table).upsert(rows, { onConflict }).setHeader('prefer', PREFER)
		return this.#write(commit => this.#company.request(what, upsert, isStored, { commit }), first)
	}

	/** @param {string} name @param {Commit} commit @param {object} [args] */
	#receipt(name, commit, args = {}) {
		const isReceipt = (/** @type {Answer} */ { status, data }) =>
			status === 200 && data?.company_id === this.#company.id && data.commit === commit.number
		return this.#company.rpc(name, args, isReceipt, { commit })
	}

	/**
	 * @template T
	 * @param {(commit: Commit) => Promise<T>} send
	 * @param {() => Promise<unknown>} [first] without which nothing is sent
	 * @returns {Promise<T>}
	 */
	#write(send, first) {
		if (this.#closed) throw new AuthStateError('CLOSED', `${this.#company}: a write after close()`)
		return this.#inLine(async () => {
			await first?.()
			return this.#send(send)
		})
	}

	/**
	 * @template T
	 * @param {() => Promise<T>} work
	 * @returns {Promise<T>}
	 */
	#inLine(work) {
		const done = this.#last.then(work)
		this.#last = done.catch(() => {})
		return done
	}

	/**
	 * A commit that is sent again keeps its number: the database executes a number once and refuses a
	 * lower one, so that a copy that was delayed on its way never lands over a later write.
	 *
	 * @template T
	 * @param {(commit: Commit) => Promise<T>} send
	 * @returns {Promise<T>}
	 */
	async #send(send) {
		const commit = this.nextCommit(this.#headers())
		try {
			const result = await send(commit)
			this.#unknown = false
			this.isStored()
			return result
		} catch (error) {
			this.#unknown = true
			throw this.lease?.judge(/** @type {AuthStateError} */ (error)) ?? error
		}
	}

	/** @returns {Record<string, string>} */
	#headers() {
		/** @type {Record<string, string>} */
		const keys = this.#opens.length ? { 'x-whatsapp-opens': this.#opens.join(',') } : {}
		if (!this.lease) return this.epoch === null ? keys : { ...keys, 'x-whatsapp-epoch': String(this.epoch) }
		const headers = { ...keys, ...this.lease.headers() }
		return this.stored ? { ...headers, 'x-whatsapp-stored': String(this.stored) } : headers
	}
}

/** The right to write one company, renewed in the background until it is released or lost. */
class Lease {
	#company
	#writer
	#token
	#ttl
	#onLost
	#released = false
	/** @type {AuthStateError | null} */
	#lost = null
	/** @type {NodeJS.Timeout | undefined} */
	#timer

	/** @param {Company} company @param {Writer} writer @param {Options} options */
	static async acquire(company, writer, { leaseTtl = 30, owner = `${hostname()}/${randomUUID()}`, onLeaseLost }) {
		const args = { p_owner: owner, p_ttl_seconds: leaseTtl }
		const commit = writer.nextCommit()
		// Giving it back undoes the request, or keeps it from being executed later.
		const data = await company.ask('acquire_whatsapp_lease', args, { commit, harmlessLate: true }).catch(async error => {
			await giveBack(company, writer, null)
			throw error
		})
		writer.isStored()
		if (data.token !== null) return new Lease(company, writer, data.token, leaseTtl, onLeaseLost)
		throw new AuthStateError('LEASE_HELD', `${company} is owned by ${data.owner} until ${data.expires_at}`)
	}

	/**
	 * @param {Company} company @param {Writer} writer @param {number} token @param {number} ttl
	 * @param {Options['onLeaseLost']} onLost
	 */
	constructor(company, writer, token, ttl, onLost) {
		this.#company = company
		this.#writer = writer
		this.#token = token
		this.#ttl = ttl
		this.#onLost = onLost
		this.#renewLater()
	}

	/** Throws once the lease is lost. */
	check() {
		if (this.#lost) throw this.#lost
	}

	/** Nor is anything read from a database that is known to be set back. */
	refuseRestored() {
		if (this.#lost?.code === 'ROLLED_BACK') throw this.#lost
	}

	/** What a write carries. */
	headers() {
		this.check()
		return { 'x-whatsapp-lease': String(this.#token) }
	}

	/**
	 * Why a write failed. A process that was frozen learns from a refused write that it was replaced.
	 *
	 * @param {AuthStateError} error
	 */
	judge(error) {
		if (error.code === 'LEASE_HELD') this.#lose()
		if (error.code === 'ROLLED_BACK') this.#lose(error)
		return this.#lost ?? error
	}

	async release() {
		this.#released = true
		clearTimeout(this.#timer)
		if (!this.#lost) await giveBack(this.#company, this.#writer, this.#token)
	}

	#renewLater(failures = 0) {
		const part = failures ? Math.max(60 / 2 ** failures, 3) : 3
		this.#timer = setTimeout(() => this.#renew(failures), (this.#ttl * 1000) / part).unref()
	}

	async #renew(failures = 0) {
		const renewal = await this.#askForRenewal().catch(() => null) // that is not lost: the database judges each write anyway
		if (this.#released || this.#lost) return
		// A token is given once, unless the database has forgotten that it gave it.
		const forgotten = renewal?.status === 'restored' || (renewal?.writer && renewal.writer !== this.#writer.id)
		if (forgotten) this.#lose(rolledBack(this.#company))
		else if (renewal?.status === 'lost' || renewal?.status === 'missing') this.#lose()
		else this.#renewLater(renewal ? 0 : failures + 1)
	}

	/** Says what is known to be stored, so that one who only reads learns that the database was set back. */
	async #askForRenewal() {
		const { client, id } = this.#company
		const isOurs = (/** @type {any} */ renewal) => renewal?.company_id === id && renewal.token === this.#token
		const limits = { within: (this.#ttl * 1000) / 3 }
		const args = { p_leases: [[id, this.#token, this.#writer.id, this.#writer.stored]], p_ttl_seconds: this.#ttl }
		const renew = () => client.rpc('renew_whatsapp_leases', args)
		const isRenewal = (/** @type {Answer} */ { status, data }) => status === 200 && isOurs(data?.[0])
		const { data: [renewal] } = await this.#company.request('renewing the lease', renew, isRenewal, limits)
		if (renewal.status !== 'busy') return renewal
		// The company is being written, and this waits for it.
		const one = { p_token: this.#token, p_ttl_seconds: this.#ttl }
		const isOne = (/** @type {Answer} */ { status, data }) => status === 200 && isOurs(data)
		return (await this.#company.rpc('renew_whatsapp_lease', one, isOne, limits)).data
	}

	/** @param {AuthStateError} [error] */
	#lose(error) {
		if (this.#lost || this.#released) return
		clearTimeout(this.#timer)
		const lost = error ?? new AuthStateError('LEASE_LOST', `${this.#company}: another process has taken over`)
		this.#lost = lost
		if (lost.code === 'ROLLED_BACK') report(this.#company)
		// What your function throws takes neither the place of a write's error nor the process down.
		const tell = async () => this.#onLost?.(lost)
		tell().catch(failed => process.emitWarning(`${this.#company}: onLeaseLost failed: ${failed}`))
	}
}

/** For those who look: what was refused has left nothing in the database. @param {Company} company */
function report(company) {
	const isDone = (/** @type {Answer} */ { status, data }) => status === 200 && data?.company_id === company.id
	company.rpc('report_whatsapp_restored', {}, isDone).catch(() => {})
}

/** @param {Company} company */
function rolledBack(company) {
	return new AuthStateError('ROLLED_BACK', `${company}: the database was set back; stop before sessions are damaged`)
}

/**
 * Give a lease back; with the token null, the one that this writer's request has got or may still get. One
 * that cannot be given back ends by itself.
 *
 * @param {Company} company @param {Writer} writer @param {number | null} token
 */
async function giveBack(company, writer, token) {
	const isDone = (/** @type {Answer} */ { status, data }) => status === 200 && typeof data === 'boolean'
	const sending = { commit: writer.nextCommit(), harmlessLate: true, within: 5_000 }
	await company.rpc('release_whatsapp_lease', { p_token: token }, isDone, sending).catch(() => {})
}

/** @returns {Promise<SupabaseClient>} */
async function clientFromEnv() {
	const { SUPABASE_URL: url, SUPABASE_SERVICE_ROLE_KEY, SUPABASE_SECRET_KEY } = process.env
	const key = SUPABASE_SERVICE_ROLE_KEY || SUPABASE_SECRET_KEY
	if (!url || !key) throw new AuthStateError('CONFIGURATION', 'set SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY')
	const kind = kindOfKey(key)
	if (kind !== 'service_role' && kind !== 'secret') {
		throw new AuthStateError('CONFIGURATION', `a service_role or secret key is needed, and this is a key for "${kind}"`)
	}
	const { createClient } = await import('@supabase/supabase-js')
	return createClient(url, key, {
		auth: { persistSession: false, autoRefreshToken: false },
		global: { fetch: kind === 'secret' ? fetchWithoutBearer : fetch },
		realtime: { transport: NoWebSocket }
	})
}

/** supabase-js insists on a WebSocket, which Node 20 does not have and nobody here opens. */
const NoWebSocket = /** @type {any} */ (class {})

/** @param {string} key a JWT, `sb_secret_…` or `sb_publishable_…` @returns {string} */
function kindOfKey(key) {
	if (key.startsWith('sb_')) return key.split('_')[1]
	try {
		return JSON.parse(Buffer.from(key.split('.')[1], 'base64url').toString()).role
	} catch {
		return 'unknown'
	}
}

/**
 * A secret key is no JWT, and some gateways answer 401 when one comes as a bearer token.
 *
 * @type {typeof fetch}
 */
function fetchWithoutBearer(input, init) {
	const headers = new Headers(init?.headers)
	headers.delete('Authorization')
	return fetch(input, { ...init, headers })
}
