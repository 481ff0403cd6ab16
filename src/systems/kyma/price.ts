/** Kyma's price is computed as every system's. */
export { foretoldPairs, isForetold, priceText } from '../../safety/price.ts'
