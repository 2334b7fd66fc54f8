import { defineConfig } from 'vitest/config'

import base from './vitest.config.js'

/** Every branch of what reads, verifies and maps a gateway's bytes is tested: `npm run coverage`. */
export default defineConfig({
  test: {
    ...base.test,
    include: [
      'test/unit/{alipay,wechat,caller,keys,strict-json,transcript}*.test.ts',
      'test/property/{alipay,wechat}*.test.ts',
      'test/integration/{gateway,wechat,alipay,hostile}*.test.ts',
      'test/integration/clock.test.ts',
    ],
    coverage: {
      provider: 'v8',
      enabled: true,
      include: ['src/gateways/**'],
      reporter: ['text'],
      thresholds: {
        'src/gateways/{clock,signature-bytes,strict-json,transcript}.ts': { branches: 100 },
        'src/gateways/alipay/{answer,certificates,codec,envelope,trade}.ts': { branches: 100 },
        'src/gateways/wechat/{certificates,codec,trade,unsettled,v2-codec}.ts': { branches: 100 },
      },
    },
  },
})
