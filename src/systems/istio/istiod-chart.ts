import type { ChartNames } from '../../gitops/helm.ts'

/** Istio's repository keeps the chart istiod in a folder of the second name. */
export const istiodCharts: ChartNames = new Set(['istiod', 'istio-discovery'])
