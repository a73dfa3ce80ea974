/**
 * Baileys auth state in Supabase, for Node: what `useMultiFileAuthState` is for a folder, on the
 * tables and functions of supabase-auth-state. One file, for Baileys 7 and 6.7.
 *
 *     const { state, saveCreds, close } = await useSupabaseAuthState('962302', { lease: true })
 *     const sock = makeWASocket({ auth: state })
 *     sock.ev.on('creds.update', () => saveCreds().catch(error => sock.end(error)))
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * @typedef {import('baileys').AuthenticationState} AuthenticationState
 * @typedef {Pick<typeof import('baileys'), 'BufferJSON' | 'initAuthCreds' | 'proto'>} Baileys
 * @typedef {import('@supabase/supabase-js').SupabaseClient<any, any, any>} SupabaseClient
 * @typedef {{ data: any, error: any, status: number, count: number | null }} Answer
 * @typedef {(answer: Answer) => boolean} Expected
 * @typedef {{ company_id: string, key_type: string, key_id: string, value: any }} Row
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
 * @property {number} [retries] how often a request that was not answered is sent again
 * @property {number} [timeout] milliseconds to wait for one answer
 */

/** Which clients understand the bytes in the rows. WAeys, in Python, shares this family. */
const FAMILY = 'baileys'

/**
 * What failed, and on what; never a stored value. `code` is one of
 *
 * - `CONFIGURATION`: URL, key or company id is missing or of the wrong kind
 * - `UNAVAILABLE`: no answer, after all retries
 * - `REFUSED`: the database or the gateway said no
 * - `FAMILY_MISMATCH`: the company belongs to another kind of client
 * - `DAMAGED`: a value is not what Baileys writes; `supabase-auth-state doctor` may repair it
 * - `UNREAD`: a write over a row that could not be read
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
 * @returns {Promise<{ state: AuthenticationState, saveCreds: () => Promise<void>, close: () => Promise<void> }>}
 */
export async function useSupabaseAuthState(companyId, options = {}) {
	if (!companyId) throw new AuthStateError('CONFIGURATION', 'a company id is needed')
	const baileys = options.baileys ?? (await import('baileys'))
	const company = new Company(companyId, options.client ?? (await clientFromEnv()), options)
	const codec = makeCodec(company, baileys)
	const lease = options.lease ? await Lease.acquire(company, options) : null
	const writer = new Writer(company, lease)
	const close = async () => {
		await writer.end()
		await lease?.release()
	}
	try {
		let stored = await company.loadCreds()
		if (!stored) {
			await writer.insertCreds(codec.encode('creds', '', baileys.initAuthCreds()))
			stored = await company.loadCreds() // another process may have been first
		}
		const creds = codec.decode('creds', '', stored)
		const saveCreds = async () => writer.saveCreds(codec.encode('creds', '', creds))
		return { state: { creds, keys: makeKeyStore(company, writer, codec) }, saveCreds, close }
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
			const stored = ids.length ? await company.loadKeys(type, [...new Set(ids)]) : {}
			const values = Object.entries(stored).map(([id, value]) => [id, codec.decode(type, id, value)])
			names.forEach(name => unread.delete(name))
			return Object.fromEntries(values)
		} catch (error) {
			names.forEach(name => unread.add(name))
			suspectUntil = Date.now() + 60_000 // longer than Baileys tries to commit
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
		if (Date.now() < suspectUntil) await refuseForgetful(rows)
		if (rows.length) await writer.saveKeys(rows)
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
			const known = Object.keys(stored[id]?._sessions ?? {})
			return known.length && !known.some(baseKey => baseKey in value._sessions)
		})
		if (forgetful) throw unreadError(forgetful)
	}

	/** @param {Row} row */
	function unreadError({ key_type: type, key_id: id }) {
		return new AuthStateError('UNREAD', `${company}: ${type} ${id} is not written, for it could not be read before`)
	}

	return { get, set, clear: async () => writer.clearKeys() }
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
		const text = JSON.stringify(value, (key, part) => {
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
	/** @param {string} id @param {SupabaseClient} client @param {Options} options */
	constructor(id, client, { retries = 5, timeout = 10_000 }) {
		this.id = id
		this.client = client
		this.retries = retries
		this.timeout = timeout
	}

	toString() {
		return `company "${this.id}"`
	}

	/** The creds document, or null when there certainly is none. */
	async loadCreds() {
		const { data } = await this.request(
			'loading creds',
			() => this.client.from('whatsapp_auth').select('creds,client_family', { count: 'exact' }).eq('company_id', this.id),
			({ data, count }) => count === data?.length
		)
		if (!data.length) return null
		const [{ creds, client_family: family }] = data
		if (family === FAMILY) return creds
		throw new AuthStateError('FAMILY_MISMATCH', `${this} belongs to the client family "${family}", this is "${FAMILY}"`)
	}

	/** @param {string} type @param {string[]} ids */
	async loadKeys(type, ids) {
		return (await this.rpc('get_whatsapp_keys', { p_keys: { [type]: ids } }))[type] ?? {}
	}

	/** @param {string} name @param {object} args */
	async rpc(name, args) {
		const call = () => this.client.rpc(name, { p_company_id: this.id, ...args })
		const isValue = (/** @type {Answer} */ { status, data }) => status === 200 && data !== null && !Array.isArray(data)
		return (await this.request(name, call, isValue)).data
	}

	/**
	 * Send a request until it is answered, or give up after a bounded time.
	 *
	 * `expected` is what success looks like. Of a 404 with the body `[]`, or with none, supabase-js
	 * makes a success without data: that would be a lost write, or creds that seem not to exist.
	 *
	 * @param {string} what
	 * @param {() => any} build
	 * @param {Expected} expected
	 * @returns {Promise<Answer>}
	 */
	async request(what, build, expected) {
		for (let attempt = 0; ; attempt++) {
			/** @type {Answer} */
			const answer = await build().retry(false).abortSignal(AbortSignal.timeout(this.timeout))
			const { error, status } = answer
			if (!error && expected(answer)) return answer
			const passing = [0, 408, 429].includes(status) || status >= 500
			if (!passing || attempt >= this.retries) throw this.#failure(what, answer, passing ? 'UNAVAILABLE' : 'REFUSED')
			await sleep(Math.random() * Math.min(5_000, 200 * 2 ** attempt))
		}
	}

	/**
	 * Repeats the messages of our own functions only: one of Postgres may hold the failing row.
	 *
	 * @param {string} what @param {Answer} answer @param {string} code
	 */
	#failure(what, { error, status }, code) {
		const sqlstate = String(error?.code ?? '')
		const ours = sqlstate.startsWith('PT')
		const reason = ours ? error.message : `HTTP ${status} ${sqlstate}`.trim()
		const held = ours && reason.startsWith('whatsapp lease:')
		return new AuthStateError(held ? 'LEASE_HELD' : code, `${this}: ${what} failed: ${reason}`)
	}
}

/** Sends the writes of one company one by one, each under the lease and with its own number. */
class Writer {
	#company
	#lease
	#id = randomUUID()
	#commits = 0
	#closed = false
	/** @type {Promise<unknown>} */
	#last = Promise.resolve()

	/** @param {Company} company @param {Lease | null} lease */
	constructor(company, lease) {
		this.#company = company
		this.#lease = lease
	}

	/** @param {object} creds */
	insertCreds(creds) {
		const row = { company_id: this.#company.id, creds, client_family: FAMILY }
		const ifAbsent = { onConflict: 'company_id', ignoreDuplicates: true }
		return this.#commit('creating creds', () => this.#table('whatsapp_auth').upsert(row, ifAbsent), isStored)
	}

	/** @param {object} creds */
	saveCreds(creds) {
		const { id } = this.#company
		const update = () => this.#table('whatsapp_auth').update({ creds }, { count: 'exact' }).eq('company_id', id)
		return this.#commit('saving creds', update, ({ count }) => count === 1)
	}

	/** @param {Row[]} rows */
	saveKeys(rows) {
		const upsert = () => this.#table('whatsapp_keys').upsert(rows, { onConflict: 'company_id,key_type,key_id' })
		return this.#commit('saving keys', upsert, isStored)
	}

	clearKeys() {
		const { id } = this.#company
		const remove = () => this.#table('whatsapp_keys').delete({ count: 'exact' }).eq('company_id', id)
		return this.#commit('clearing keys', remove, ({ count }) => count !== null)
	}

	/** Accept no more writes, and wait for those under way. */
	end() {
		this.#closed = true
		return this.#last
	}

	/** @param {string} name */
	#table(name) {
		return this.#company.client.from(name)
	}

	/**
	 * A commit that is sent again keeps its number: so the database can tell one that was delayed on
	 * its way, and must not land over its successor.
	 *
	 * @param {string} what
	 * @param {() => any} build
	 * @param {Expected} expected
	 * @returns {Promise<void>}
	 */
	#commit(what, build, expected) {
		if (this.#closed) throw new AuthStateError('CLOSED', `${this.#company}: ${what} after close()`)
		const done = this.#last.then(async () => {
			const number = `${this.#id}:${++this.#commits}`
			const headers = { 'x-whatsapp-commit': number, ...this.#lease?.headers() }
			const stamped = () => Object.entries(headers).reduce((query, header) => query.setHeader(...header), build())
			await this.#company.request(what, stamped, expected).catch(error => {
				throw this.#lease?.judge(error) ?? error
			})
		})
		this.#last = done.catch(() => {})
		return done
	}
}

/** @type {Expected} */
const isStored = ({ status, data }) => (status === 200 || status === 201) && data === null

/** The right to write one company, renewed in the background until it is released or lost. */
class Lease {
	#company
	#token
	#ttl
	#onLost
	#released = false
	/** @type {AuthStateError | null} */
	#lost = null
	/** @type {NodeJS.Timeout | undefined} */
	#timer

	/** @param {Company} company @param {Options} options */
	static async acquire(company, { leaseTtl = 30, owner = `${hostname()}/${randomUUID()}`, onLeaseLost }) {
		const answer = await company.rpc('acquire_whatsapp_lease', { p_owner: owner, p_ttl_seconds: leaseTtl })
		if (answer.token !== null) return new Lease(company, answer.token, leaseTtl, onLeaseLost)
		throw new AuthStateError('LEASE_HELD', `${company} is owned by ${answer.owner} until ${answer.expires_at}`)
	}

	/** @param {Company} company @param {number} token @param {number} ttl @param {Options['onLeaseLost']} onLost */
	constructor(company, token, ttl, onLost) {
		this.#company = company
		this.#token = token
		this.#ttl = ttl
		this.#onLost = onLost
		this.#renewLater()
	}

	/** What a write carries. Throws once the lease is lost. */
	headers() {
		if (this.#lost) throw this.#lost
		return { 'x-whatsapp-lease': String(this.#token) }
	}

	/**
	 * Why a write failed. A process that was frozen learns from a refused write that it was replaced.
	 *
	 * @param {AuthStateError} error
	 */
	judge(error) {
		if (error.code === 'LEASE_HELD') this.#lose()
		return this.#lost ?? error
	}

	async release() {
		this.#released = true
		clearTimeout(this.#timer)
		if (!this.#lost) await this.#company.rpc('release_whatsapp_lease', { p_token: this.#token })
	}

	#renewLater() {
		this.#timer = setTimeout(() => this.#renew(), (this.#ttl * 1000) / 3).unref()
	}

	async #renew() {
		const { status } = await this.#company
			.rpc('renew_whatsapp_lease', { p_token: this.#token, p_ttl_seconds: this.#ttl })
			.catch(() => ({ status: 'unknown' })) // that is not lost: the database judges each write anyway
		if (this.#released || this.#lost) return
		if (status === 'lost' || status === 'missing') this.#lose()
		else this.#renewLater()
	}

	#lose() {
		if (this.#lost) return
		clearTimeout(this.#timer)
		this.#lost = new AuthStateError('LEASE_LOST', `${this.#company}: another process has taken over`)
		this.#onLost?.(this.#lost)
	}
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
