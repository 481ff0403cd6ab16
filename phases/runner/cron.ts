import { Cron } from 'cdk8s'

/** Five fields, as crontab(5) has them. */
export function cronOf(text: string): Cron {
  const [minute, hour, day, month, weekDay, more] = text.trim().split(/\s+/)
  if (weekDay === undefined || more !== undefined)
    throw new Error(`schedule ${JSON.stringify(text)} has not five fields`)
  return new Cron({ minute: minute ?? '*', hour: hour ?? '*', day: day ?? '*', month: month ?? '*', weekDay })
}
