import { defineConfig } from 'prisma/config'

const url = process.env['DATABASE_URL']

export default defineConfig({
  schema: 'prisma/schema.prisma',
  // Only the commands that compare or migrate a database need one; generating the client does not.
  ...(url === undefined ? {} : { datasource: { url } }),
})
