import { defineConfig } from 'vite';

export default defineConfig({
  // `npm run dev` shows the page with hot reload while `sluice dev` answers everything else.
  server: { host: '127.0.0.1', proxy: { '/demo': 'http://127.0.0.1:7880', '/rtc': { target: 'ws://127.0.0.1:7880', ws: true } } },
  build: { target: 'es2022', chunkSizeWarningLimit: 900 },
});
