// The places an auth state can live in. Each opener gives { state: { creds, keys }, saveCreds, close }.
import { useSupabaseAuthState } from '../../examples/node/use-supabase-auth-state.js'
import { fromDocument, toDocument } from './baileys.mjs'
import { makeClient } from './supabase-client.mjs'

const nothing = async () => {}

// Values live as JSON documents, so that every read gives fresh ones, as a real store does.
const openMemory = async baileys => {
	const documents = new Map()
	const name = (type, id) => `${type} ${id}`
	const read = (type, id) => {
		const value = fromDocument(baileys, documents.get(name(type, id)))
		return type === 'app-state-sync-key' ? baileys.proto.Message.AppStateSyncKeyData.fromObject(value) : value
	}
	const keys = {
		get: async (type, ids) =>
			Object.fromEntries(ids.filter(id => documents.has(name(type, id))).map(id => [id, read(type, id)])),
		set: async data => {
			for (const [type, values] of Object.entries(data)) {
				for (const [id, value] of Object.entries(values)) {
					if (value) documents.set(name(type, id), toDocument(baileys, value))
					else documents.delete(name(type, id))
				}
			}
		}
	}
	return { state: { creds: baileys.initAuthCreds(), keys }, saveCreds: nothing, close: nothing }
}

const openFolder = async (baileys, { folder }) => ({
	...(await baileys.useMultiFileAuthState(folder)),
	close: nothing
})

const keysOf = ({ throws, returns }) => {
	if (throws) throw new Error(throws)
	return returns
}

const openSupabase = async (baileys, { company, lossThrows, ...options }) => {
	const losses = []
	let loseLease
	const leaseLost = new Promise(resolve => (loseLease = resolve))
	const onLeaseLost = error => {
		losses.push(error.message)
		loseLease(error)
		if (lossThrows) throw new Error('thrown by onLeaseLost')
	}
	const { client, ...watched } = makeClient(leaseLost)
	watched.faults.push(...(options.faults ?? []))
	const encryption = typeof options.encryption === 'object' ? () => keysOf(options.encryption) : options.encryption
	const auth = await useSupabaseAuthState(company, { ...options, encryption, baileys, client, onLeaseLost })
	return { ...auth, ...watched, leaseLost, losses }
}

// The mistake this project began with: values go through JSONB without BufferJSON.
const openPlainJson = async (baileys, { company }) => {
	const { client } = makeClient()
	const must = async query => {
		const { data, error } = await query
		if (error) throw new Error(`HTTP error ${error.code}`)
		return data
	}
	const creds = async () => (await must(client.from('whatsapp_auth').select('creds').eq('company_id', company)))[0]?.creds
	if (!(await creds())) {
		await must(client.from('whatsapp_auth').insert({ company_id: company, creds: baileys.initAuthCreds() }))
	}
	const keys = {
		get: async (type, ids) => {
			const query = client.from('whatsapp_keys').select('key_id,value').eq('company_id', company)
			const rows = await must(query.eq('key_type', type).in('key_id', ids))
			return Object.fromEntries(rows.map(row => [row.key_id, row.value]))
		},
		set: async data => {
			const rows = Object.entries(data).flatMap(([key_type, values]) =>
				Object.entries(values).map(([key_id, value]) => ({ company_id: company, key_type, key_id, value }))
			)
			await must(client.from('whatsapp_keys').upsert(rows))
		}
	}
	const state = { creds: await creds(), keys }
	const saveCreds = () => must(client.from('whatsapp_auth').update({ creds: state.creds }).eq('company_id', company))
	return { state, saveCreds, close: nothing }
}

const OPENERS = { memory: openMemory, folder: openFolder, supabase: openSupabase, 'plain-json': openPlainJson }

export const openAuthState = (baileys, { kind, ...options }) => OPENERS[kind](baileys, options)
