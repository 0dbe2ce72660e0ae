// The SDKs as apps use them: pointed at the gateway by what each offers for that, and
// the calls that they have.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const Iamport = require('iamport');
const { Iamporter } = require('iamporter');
const rest = require('iamport-rest-client-nodejs');
const { Payments, Prepare } = rest.Request;

// sdks are in the order of the table's columns. The paths say where in a result or an
// error a user finds the response, the texts and the status. The keys are nobody's: only
// the gateway has real ones.
export const sdks = [
	{
		name: 'iamport',
		client(base) {
			Iamport.DEFAULT_HOST = base; // the constructor reads it
			return new Iamport({ impKey: 'app-key', impSecret: 'app-secret' });
		},
		response: '', texts: ['message'], status: [],
		dropsTextOf: [400, 401, 404], // it does not read the body then
	},
	{
		name: 'iamporter',
		client: (host) => new Iamporter({ apiKey: 'app-key', secret: 'app-secret', host }),
		response: 'data', texts: ['message', 'raw.message'], status: ['status'],
		dropsTextOf: [],
	},
	{
		name: 'iamport-rest-client-nodejs',
		client: (baseUrl) => new rest.Iamport({ apiKey: 'app-key', apiSecret: 'app-secret', baseUrl }),
		response: 'data.response', texts: ['response.data.message', 'data.message'], status: ['status', 'response.status'],
		dropsTextOf: [],
	},
];
for (const sdk of sdks) sdk.version = require(`./node_modules/${sdk.name}/package.json`).version;

// calls make one call of the API with the client of each SDK that has it.
const sorting = '-started';
export const calls = {
	getToken: {
		'iamporter': (client) => client.getToken(),
		'iamport-rest-client-nodejs': (client) => client.getToken(),
	},
	issue: {
		'iamport-rest-client-nodejs': (client, { merchant_uid, amount }) => direct(client, { method: 'post', url: '/cvs', data: { merchant_uid, amount } }),
	},
	issueWithoutAmount: {
		'iamport-rest-client-nodejs': (client, { merchant_uid }) => direct(client, { method: 'post', url: '/cvs', data: { merchant_uid } }),
	},
	void: {
		'iamport-rest-client-nodejs': (client, { imp_uid }) => direct(client, { method: 'delete', url: `/cvs/${imp_uid}` }),
	},
	payment: {
		'iamport': (client, { imp_uid }) => client.payment.getByImpUid({ imp_uid }),
		'iamporter': (client, { imp_uid }) => client.findByImpUid(imp_uid),
		'iamport-rest-client-nodejs': (client, { imp_uid }) => Payments.getByImpUid({ imp_uid }).request(client),
	},
	payments: {
		'iamport-rest-client-nodejs': (client, { imp_uid }) => Payments.getByImpUids({ imp_uid: [imp_uid] }).request(client),
	},
	find: {
		'iamport': (client, { merchant_uid }) => client.payment.getByMerchant({ merchant_uid }),
		'iamporter': (client, { merchant_uid }) => client.findByMerchantUid(merchant_uid),
		'iamport-rest-client-nodejs': (client, { merchant_uid }) => Payments.getByMerchantUid({ merchant_uid, status: 'paid', sorting }).request(client),
	},
	findAll: {
		'iamporter': (client, { merchant_uid }) => client.findAllByMerchantUid(merchant_uid), // with a slash at the end
	},
	findAllByStatus: {
		'iamporter': (client, { merchant_uid }) => client.findAllByMerchantUid(merchant_uid, { status: 'paid' }),
		'iamport-rest-client-nodejs': (client, { merchant_uid }) => Payments.getByMerchantUids({ merchant_uid, status: 'paid', sorting, page: 1 }).request(client),
	},
	list: {
		'iamport': (client) => client.payment.getByStatus({ payment_status: 'paid', sorting }),
		'iamporter': (client) => client.findAllByStatus('paid', { sorting }),
		'iamport-rest-client-nodejs': (client) => Payments.getByStatus({ status: 'paid', page: 1, limit: 20, sorting }).request(client),
	},
	balance: {
		'iamport-rest-client-nodejs': (client, { imp_uid }) => Payments.getAmountByImpUid({ imp_uid }).request(client),
	},
	cancel: (fields = {}) => ({
		'iamport': (client, { imp_uid }) => client.payment.cancel({ imp_uid, ...fields }),
		'iamporter': (client, { imp_uid }) => client.cancelByImpUid(imp_uid, { ...fields }),
		'iamport-rest-client-nodejs': (client, { imp_uid }) => Payments.cancel({ imp_uid, ...fields }).request(client),
	}),
	prepare: {
		'iamport': (client, { merchant_uid, amount }) => client.payment.prepare({ merchant_uid, amount }),
		'iamporter': (client, { merchant_uid, amount }) => client.createPreparedPayment({ merchant_uid, amount }),
		'iamport-rest-client-nodejs': (client, { merchant_uid, amount }) => Prepare.postAmount({ merchant_uid, amount }).request(client),
	},
	prepared: {
		'iamport': (client, { merchant_uid }) => client.payment.getPrepare({ merchant_uid }),
		'iamporter': (client, { merchant_uid }) => client.getPreparedPayment(merchant_uid),
		'iamport-rest-client-nodejs': (client, { merchant_uid }) => Prepare.getAmount({ merchant_uid }).request(client),
	},
};

// direct calls what iamport-rest-client-nodejs has no class for, by its own axios
// instance and headers.
async function direct(client, config) {
	return client.getApiInstance().request({ ...config, headers: await client.getHeaders() });
}
