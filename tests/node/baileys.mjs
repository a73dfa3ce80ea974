// Real Baileys, version 7 or 6.7, with a logger that writes nothing: logs would hold secrets.

const PACKAGES = { 6: 'baileys6', 7: 'baileys' }

const nothing = () => {}
export const silent = {
	level: 'silent',
	trace: nothing,
	debug: nothing,
	info: nothing,
	warn: nothing,
	error: nothing,
	fatal: nothing,
	child: () => silent
}

// libsignal prints whole sessions with console.info and console.warn.
export const silenceConsole = () => {
	for (const name of ['log', 'info', 'warn', 'error', 'debug']) console[name] = nothing
}

export const loadBaileys = async (version = 7) => {
	const name = PACKAGES[version]
	if (!name) throw new Error(`no Baileys of version ${version} here`)
	return import(name)
}

// A value as the JSON document that Baileys writes into a file, and back.
export const toDocument = ({ BufferJSON }, value) => JSON.parse(JSON.stringify(value ?? null, BufferJSON.replacer))
export const fromDocument = ({ BufferJSON }, document) => JSON.parse(JSON.stringify(document), BufferJSON.reviver)
